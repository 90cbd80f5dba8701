package admission

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"lightcone"
)

// Config holds a table's bounds. Start from DefaultConfig.
type Config struct {
	Breaker BreakerRules

	// MaxTenants bounds the tenants that are remembered. Above it, those go of
	// whom there is nothing to forget; then those whose bucket is not full; then
	// those whose usage the region has not heard of (see Table.Forgotten). Only
	// tenants with a call in flight always stay.
	MaxTenants int
}

// DefaultConfig remembers 200 000 tenants, which is some 40 MB when all of them call.
func DefaultConfig() Config {
	return Config{Breaker: DefaultBreakerRules(), MaxTenants: 200_000}
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	if c.MaxTenants < 1 {
		return fmt.Errorf("admission: MaxTenants is %d: want at least 1", c.MaxTenants)
	}
	if err := c.Breaker.Validate(); err != nil {
		return fmt.Errorf("admission: %w", err)
	}
	return nil
}

// Table admits calls and settles them, for all tenants of one gateway. Make it
// with NewTable. Any number of goroutines may use it.
type Table struct {
	rules    BreakerRules
	base     time.Time // what its nanoseconds count from
	steady   bool      // base has a monotonic reading
	calendar calendar
	seed     maphash.Seed
	shards   []shard // their number is a power of two

	told      atomic.Bool  // a region is told what tenants use
	remembers atomic.Int64 // until when a crash may be remembered
	forgotten atomic.Int64

	lateMu sync.Mutex
	late   map[month]map[lightcone.TenantID]lightcone.Usage // of months that are over here, and not told yet
}

// shard is a part of the tenants, with a lock of its own.
type shard struct {
	mu      sync.Mutex
	tenants map[lightcone.TenantID]*tenant
	most    int
	latest  int64    // see clock
	_       [64]byte // locks of two shards share no cache line
}

const mostShards = 64

// NewTable makes an empty table. Config must validate.
func NewTable(config Config, now time.Time) (*Table, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	shards := 1
	for shards < mostShards && config.MaxTenants/shards > mostShards {
		shards *= 2
	}
	t := &Table{
		rules:  config.Breaker,
		base:   now,
		steady: monotonic(now),
		seed:   maphash.MakeSeed(),
		shards: make([]shard, shards),
		late:   make(map[month]map[lightcone.TenantID]lightcone.Usage),
	}
	t.remembers.Store(-1 << 62)
	for i := range t.shards {
		t.shards[i].tenants = make(map[lightcone.TenantID]*tenant)
		t.shards[i].most = (config.MaxTenants + shards - 1) / shards
	}
	return t, nil
}

// Grant is an admitted call's hold on its tenant's limits, until it is settled.
// The zero Grant holds nothing.
type Grant struct {
	shard  *shard
	tenant *tenant
	id     lightcone.TenantID
	probe  bool
}

// Hold counts bytes of memory that the call is going to take, if its tenant may
// have most: no other call of the tenant holds any beside the call's own, or all its
// calls hold no more than most with these.
func (g Grant) Hold(own, bytes, most int64) bool {
	if g.tenant == nil {
		return true
	}
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if g.tenant.held > own && g.tenant.held+bytes > most {
		return false
	}
	g.tenant.held += bytes
	return true
}

// Charge counts bytes that the call has taken. What was held or charged while the
// Grant was not settled may be released after that.
func (g Grant) Charge(bytes int64) {
	if g.tenant == nil {
		return
	}
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	g.tenant.held += bytes
}

// Release gives back bytes that were held or charged.
func (g Grant) Release(bytes int64) { g.Charge(-bytes) }

// Admit lets a call of the tenant go on, or says why not. Each Grant has to be
// settled once. The call has used its token whatever becomes of it: a token that
// came back from a full queue would let a tenant knock on it without any bound,
// and that when the queue is full.
func (t *Table) Admit(id lightcone.TenantID, quota *lightcone.Quota, at time.Time) (Grant, Refusal) {
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock(s, at)
	s.latest = now
	found := t.find(s, id, now, at)
	found.limited, found.called = isMonthly(quota), true
	limit, wait, full, probe := found.judge(&t.rules, quota, now, at)
	found.full = full // of a refused call, too: a clock that was set back begins to count here
	if limit != "" {
		return Grant{}, Refusal{limit, wait, found.standing(quota, now, at)}
	}
	found.inFlight++
	found.breaker.probing = found.breaker.probing || probe
	return Grant{s, found, id, probe}, Refusal{}
}

// Peek says what Admit would say, and changes nothing: for a call that is going to
// be admitted in a moment, when its client has been told to send its body.
func (t *Table) Peek(id lightcone.TenantID, quota *lightcone.Quota, at time.Time) Refusal {
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock(s, at)
	seen := fresh(now, t.calendar.monthOf(at))
	if found := s.tenants[id]; found != nil {
		if found.month.month == found.month.month.follow(at, seen.month.month) {
			seen = *found
		} else {
			seen.full, seen.breaker, seen.inFlight = found.full, found.breaker, found.inFlight
		}
	}
	seen.breaker.forget(&t.rules, now)
	limit, wait, _, _ := seen.judge(&t.rules, quota, now, at)
	if limit == "" {
		return Refusal{}
	}
	return Refusal{limit, wait, seen.standing(quota, now, at)}
}

// Settle ends an admitted call: what became of it and what it used, which is
// nothing for a call that was not run. It answers what the tenant has left of the
// quota, which should be the one that the call was admitted with.
func (t *Table) Settle(grant Grant, outcome Outcome, used lightcone.Usage, quota *lightcone.Quota, at time.Time) Standing {
	if grant.tenant == nil {
		return Standing{}
	}
	s, found := grant.shard, grant.tenant
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock(s, at)
	s.latest = now
	t.turn(grant.id, found, t.calendar.monthOf(at), at)
	found.inFlight--
	found.breaker.record(&t.rules, outcome, grant.probe, now)
	if outcome.costly() {
		t.noteCrash(&found.breaker)
	}
	found.month.add(used)
	return found.standing(quota, now, at)
}

// Confined is whether the tenant's calls should stay with the few workers that are
// its own: they have crashed functions within the breaker's Memory, or were stopped at
// their deadlines so often that the breaker opened.
func (t *Table) Confined(id lightcone.TenantID) bool { return t.confined(id, time.Now()) }

func (t *Table) confined(id lightcone.TenantID, at time.Time) bool {
	now := t.since(at)
	if now > t.remembers.Load() {
		return false // nobody's are remembered
	}
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now = t.clock(s, at)
	found := s.tenants[id]
	if found == nil {
		return false
	}
	found.breaker.forget(&t.rules, now)
	return found.breaker.confines()
}

// noteCrash keeps remembers up to date. Its callers may come in any order.
func (t *Table) noteCrash(b *breaker) {
	until := max(b.last, b.until) + int64(t.rules.Memory)
	for {
		known := t.remembers.Load()
		if until <= known || t.remembers.CompareAndSwap(known, until) {
			return
		}
	}
}

// Len is how many tenants are remembered.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.tenants)
		s.mu.Unlock()
	}
	return n
}

// Forgotten is how many tenants have been dropped whose usage the region had not
// heard of, because there were more than MaxTenants.
func (t *Table) Forgotten() int64 { return t.forgotten.Load() }

// since is a time in the table's nanoseconds. Between times with a monotonic
// reading, which time.Now gives, it is not touched by changes of the clock.
func (t *Table) since(at time.Time) int64 { return int64(at.Sub(t.base)) }

// monotonic is whether a time has a monotonic reading, which Round strips.
func monotonic(at time.Time) bool { return at != at.Round(0) }

// overtaking is by how much a call may come later to the table than one that read
// the clock after it, where that cannot be told from a clock that was set back.
const overtaking = time.Second

// clock is the time as the shard goes by it. A call that was overtaken on its way
// here must not turn time back: the next one would find the same time pass again,
// and tokens in it. Only a clock without a monotonic reading can have been set back;
// that is followed when it is by more than overtaking. The shard is locked; whoever
// changes it keeps what clock answers as latest.
func (t *Table) clock(s *shard, at time.Time) int64 {
	now := t.since(at)
	if now >= s.latest {
		return now
	}
	if t.steady && monotonic(at) || s.latest-now < int64(overtaking) {
		return s.latest
	}
	return now
}

func (t *Table) shardOf(id lightcone.TenantID) *shard {
	return &t.shards[maphash.String(t.seed, string(id))&uint64(len(t.shards)-1)]
}

// find is the tenant as it is now, made if need be. The shard is locked.
func (t *Table) find(s *shard, id lightcone.TenantID, now int64, at time.Time) *tenant {
	m := t.calendar.monthOf(at)
	found := s.tenants[id]
	if found == nil {
		t.makeRoom(s, now)
		made := fresh(now, m)
		found = &made
		found.month.own = t.recall(m, id)
		s.tenants[id] = found
		return found
	}
	found.breaker.forget(&t.rules, now)
	t.turn(id, found, m, at)
	return found
}

// turn begins another month for the tenant if it is one; what the region has not
// heard of the one before is kept until it has.
func (t *Table) turn(id lightcone.TenantID, found *tenant, present month, at time.Time) {
	before := found.month.month
	next := before.follow(at, present)
	if next == before {
		return
	}
	own := found.month.own
	found.month = monthly{month: next, own: t.recall(next, id)}
	if !t.told.Load() || own == (lightcone.Usage{}) {
		return
	}
	t.lateMu.Lock()
	defer t.lateMu.Unlock()
	if t.late[before] == nil {
		t.late[before] = make(map[lightcone.TenantID]lightcone.Usage)
	}
	t.late[before][id] = own
}

// recall takes back what was kept of a month that has begun again, because the
// clock was set back: what is to be told of a tenant's month is in one place.
func (t *Table) recall(m month, id lightcone.TenantID) lightcone.Usage {
	t.lateMu.Lock()
	defer t.lateMu.Unlock()
	own := t.late[m][id]
	t.settleLate(m, id, lightcone.Usage{})
	return own
}

// settleLate keeps what is left to be told of a month that is over. lateMu is locked.
func (t *Table) settleLate(m month, id lightcone.TenantID, left lightcone.Usage) {
	if left != (lightcone.Usage{}) {
		t.late[m][id] = left
		return
	}
	if delete(t.late[m], id); len(t.late[m]) == 0 {
		delete(t.late, m)
	}
}

// looks is how many tenants are looked at to find one that can be forgotten.
const looks = 32

// makeRoom forgets tenants when the shard holds as many as it may: all of those
// looked at of whom there is nothing to forget, or else the one that is worth
// least. Go begins to range over a map anywhere, so those looked at are random.
func (t *Table) makeRoom(s *shard, now int64) {
	if len(s.tenants) < s.most {
		return
	}
	told := t.told.Load()
	looked, dropped := 0, false
	var least lightcone.TenantID
	cheapest := aCall
	for id, found := range s.tenants {
		switch w := found.worthOf(&t.rules, now, told); {
		case w == nothing:
			delete(s.tenants, id)
			dropped = true
		case w < cheapest:
			least, cheapest = id, w
		}
		if looked++; looked == looks {
			break
		}
	}
	if dropped || cheapest == aCall {
		return
	}
	if s.tenants[least].month.own != (lightcone.Usage{}) && told {
		t.forgotten.Add(1)
	}
	delete(s.tenants, least)
}
