package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// Member is one worker of a fleet. The worker may also have a method
//
//	Busy(lightcone.FunctionName) int
//
// for how many calls it last said it runs, those of all gateways together.
//
// Functions of a worker that is not ready should go on listing what it last
// offered, unless it is leaving: that is where calls go when no worker is ready.
// Functions, Ready and Busy are called often and must not block.
type Member struct {
	ID     string // tells whether a member of the next set is the same one
	Worker Worker
}

// Declared is a function that is known without a worker that offers it.
type Declared struct {
	Spec      functions.Spec // its name and limits; no command is needed
	ColdStart time.Duration  // how long a call may wait for the first worker; 0 = a worker should always be there
}

// FleetConfig says what a fleet serves. Declared and Registerer have no default.
type FleetConfig struct {
	Declared    []Declared
	Random      func() uint64    // uniform, for any number of goroutines; nil = math/rand/v2
	Now         func() time.Time // nil = time.Now
	RetryBudget float64          // retries of lost calls allowed for each call, 0 to 1; 0 = 0.10
	RoomWait    time.Duration    // how long a lost call waits for room with another member; 0 = 1 s, below 0 = not at all

	// Confined is whether a tenant's calls may go to its shuffle shard only, because
	// they have lately cost processes; nil = no tenant's. It is asked for every call,
	// from many goroutines, and must not block.
	Confined func(lightcone.TenantID) bool

	Registerer prometheus.Registerer
}

// Validate names the first field that cannot be used.
func (c FleetConfig) Validate() error {
	if c.RetryBudget < 0 || c.RetryBudget > 1 {
		return fmt.Errorf("fleet: RetryBudget is %v: want 0 to 1", c.RetryBudget)
	}
	if c.Registerer == nil {
		return fmt.Errorf("fleet: Registerer is nil: the fleet's metrics need one")
	}
	seen := make(map[lightcone.FunctionName]bool)
	for _, declared := range c.Declared {
		spec := declared.Spec
		if err := spec.Name.Validate(); err != nil {
			return fmt.Errorf("fleet: declared: %w", err)
		}
		switch {
		case seen[spec.Name]:
			return fmt.Errorf("fleet: function %s is declared twice", spec.Name)
		case spec.DefaultTimeout <= 0 || spec.MaxTimeout < spec.DefaultTimeout || spec.MaxBodyBytes <= 0:
			return fmt.Errorf("fleet: function %s is declared with the timeouts %v (default) and %v (longest) and a body of %d bytes: want 0 < default <= longest, and a body above 0", spec.Name, spec.DefaultTimeout, spec.MaxTimeout, spec.MaxBodyBytes)
		case declared.ColdStart < 0:
			return fmt.Errorf("fleet: function %s is declared with the cold start %v: want 0 or more", spec.Name, declared.ColdStart)
		}
		seen[spec.Name] = true
	}
	return nil
}

// Fleet makes many workers into one: it is a Worker that picks one of them for
// each call. It starts nothing and knows nothing of where workers come from:
// whoever does tells it with Follow. Its methods may be called from many goroutines.
//
// Invariants: a call is never with two members at once; it is sent a second
// time only if the first member said that it was not started, or, once and within
// the retry budget, if that member was lost; a member that is not in the set gets no
// new call; a confined tenant's calls go to members of its shuffle shard and no
// others.
//
// A call goes to a member of its tenant's shard that has room; or else to any: the
// shards bound failures, not load. A confined tenant's call does not go further, and is
// refused then: see errConfined.
type Fleet struct {
	declared []Declared
	random   func() uint64
	now      func() time.Time
	confined func(lightcone.TenantID) bool
	retries  *retry.Budget
	metrics  *fleetMetrics

	roomWaits int // of roomPause each

	mu         sync.Mutex // never held while a call runs
	members    []*member
	functions  map[lightcone.FunctionName]*backends
	looked     time.Time // when the members were last looked at
	shards     shards
	candidates []candidate              // take's, reused
	peers      []*memberHealth          // review's, reused
	unseen     []lightcone.FunctionName // by a ready member, ever: see Ready
}

// NewFleet makes a fleet without members and registers its metrics.
func NewFleet(config FleetConfig) (*Fleet, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	f := &Fleet{
		declared:  slices.Clone(config.Declared),
		random:    config.Random,
		now:       config.Now,
		confined:  config.Confined,
		retries:   retry.NewBudget(cmp.Or(config.RetryBudget, defaultRetryBudget), firstRetries, mostRetries),
		functions: make(map[lightcone.FunctionName]*backends),
	}
	if f.random == nil {
		f.random = rand.Uint64
	}
	if f.now == nil {
		f.now = time.Now
	}
	if config.RoomWait == 0 {
		config.RoomWait = defaultRoomWait
	}
	f.roomWaits = int(config.RoomWait / roomPause)
	for _, declared := range f.declared {
		if declared.ColdStart == 0 {
			f.unseen = append(f.unseen, declared.Spec.Name)
		}
	}
	var err error
	f.metrics, err = newFleetMetrics(config.Registerer, f)
	return f, err
}

const (
	// leastLeft is the time to its deadline that a call must have left to be worth
	// another try: less is not enough for the way there and back.
	leastLeft = 5 * time.Millisecond

	// hopefulTries bounds how many members that are thought to be full are asked
	// for one call, so that a full fleet is not asked through by every call.
	hopefulTries = 2

	defaultRoomWait = time.Second

	// roomPause is how often a call that waits for room looks again.
	roomPause = 5 * time.Millisecond

	// noneReadyRetry is when to come back while there is no worker.
	noneReadyRetry = time.Second

	// confinedRetry is when a confined tenant may come back.
	confinedRetry = time.Second
)

// Run has a member run the call, and returns what the member returned. Overloaded
// means that no member took it, WorkerLost that a member which had it is gone; the
// call may then have run. See Worker.
func (f *Fleet) Run(call *functions.Call, answer *functions.Answer) error {
	f.retries.Deposit()
	var few [8]*member // more tries than that are rare enough to allocate
	s := search{
		function: call.Function,
		tenant:   fingerprint(call.Tenant),
		confined: f.Confined(call.Tenant),
		tried:    few[:0],
		hopes:    hopefulTries,
	}
	var lost error
	var lostWith *member
	var lostSince time.Time
	waits := f.roomWaits
	for {
		m, l := f.take(&s)
		if m == nil {
			if lost == nil || waits <= 0 || call.Deadline.Sub(f.now()) < leastLeft {
				break
			}
			// It has no place in the queue any more, for it may have run.
			waits--
			time.Sleep(roomPause)
			s.tried = append(s.tried[:0], lostWith)
			continue
		}
		s.tried = append(s.tried, m)
		sent := f.now()
		outcome, err := f.try(&s, m, l, sent, call, answer)
		switch {
		case outcome == taken || outcome == gone && (lost != nil || !f.mayRetry(call)):
			if lost != nil {
				answer.Lost = sent.Sub(lostSince)
			}
			return err
		case outcome == gone:
			// What took this member may have taken its neighbours, whose loss shows
			// any moment now: the next one is of those that have been heard of since.
			lost, lostWith, lostSince, s.heardSince = err, m, sent, sent
		}
		*answer = functions.Answer{Body: answer.Body[:0]}
		if call.Deadline.Sub(f.now()) < leastLeft {
			break
		}
	}
	if lost != nil {
		return lost // and not Overloaded: the call may have been started
	}
	return f.noRoom(call.Function, s.confined)
}

// outcome is how a try ended.
type outcome int

const (
	taken   outcome = iota // the member ran the call, or failed it for good
	refused                // the member did not start it
	gone                   // the member was lost with it
)

// try hands the call to m, now.
func (f *Fleet) try(s *search, m *member, l *load, now time.Time, call *functions.Call, answer *functions.Answer) (how outcome, err error) {
	seen := sighting{tenant: s.tenant, what: sawCrash}
	defer func() { f.settle(s, l, how, seen) }() // also when the worker panics
	err = m.worker.Run(call, answer)
	seen = sightingOf(s.tenant, call, answer, f.now().Sub(now), err)
	if err == nil {
		return taken, nil
	}
	switch problem.Of(err).Kind {
	case problem.Overloaded, problem.NotFound: // not found: it has stopped offering the function
		return refused, err
	case problem.WorkerLost:
		return gone, err
	default:
		return taken, err
	}
}

// mayRetry is whether a call that was lost with its worker may be sent again.
func (f *Fleet) mayRetry(call *functions.Call) bool {
	if call.Deadline.Sub(f.now()) < leastLeft {
		return false
	}
	if !f.retries.Withdraw() {
		f.metrics.exhausted.Inc()
		return false
	}
	f.metrics.retries.Inc()
	return true
}

// errConfined is the cause in the error of a call that was refused because its
// tenant is confined and there is no room for it. Such a call neither waits in the line
// nor goes back to its place there, as others do: there may be room for those behind it
// (lane.enter, lane.comeBack).
var errConfined = errors.New("the tenant is confined to its shard")

// confinedRefusal is what the caller of such a call is told.
func confinedRefusal(name lightcone.FunctionName) error {
	err := problem.New(problem.Overloaded, "Calls with this key have lately crashed, so they do not wait for a slot and only few workers take them; there was no free one for the function %s, and the call was not run.", name)
	err.RetryAfter = confinedRetry
	return err.Because(errConfined)
}

// noRoom is why no member took a call.
func (f *Fleet) noRoom(name lightcone.FunctionName, confined bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to := f.functions[name]; to == nil || !to.ready {
		err := problem.New(problem.Overloaded, "There is no ready worker for the function %s at the moment; the call was not run.", name)
		err.RetryAfter = noneReadyRetry
		return err
	}
	if confined {
		return confinedRefusal(name)
	}
	return problem.New(problem.Overloaded, "No worker has a free slot for the function %s; the call was not run.", name)
}
