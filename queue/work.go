package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/retry"
)

// WorkConfig is what a worker takes calls for.
type WorkConfig struct {
	Function lightcone.FunctionName
	AtOnce   int         // most queued calls that run at once; 1 or more
	Room     func() bool // whether a call may start now: a slot is idle beyond the reserve; called often, from one goroutine

	// Run runs one attempt: the end of ctx kills it (the call's timeout, or a cancel).
	// The call's Deadline is set; call.Body is Run's until it returns, and what it puts
	// into answer must stay as it is after that. Its errors are problems, as for calls
	// whose caller waits; problem.Overloaded says that the function has not seen the
	// call, and problem.Quarantined that it must not: the call has failed then.
	Run func(ctx context.Context, call *functions.Call, answer *functions.Answer) error

	// Ended is told of each call that a function has seen and that has ended, before the
	// queue lets go of it: at least once, each time in the same words, of the last attempt
	// that was not the platform's fault. A dead call that is redriven costs nothing more:
	// it is told of as it first ended. Only a cancelled call whose worker was taken for lost
	// may be left out, and one whose function has no worker from then on until Limits.Keep
	// is over. An error puts the end off: the call is delivered again, not run
	// again. May be nil.
	Ended func(used *lightcone.UsageRecord) error
}

const (
	roomEvery = 20 * time.Millisecond  // how often Room is asked again while calls may wait
	idleEvery = 100 * time.Millisecond // and while none is known to

	unheardMost = 10 * time.Second // when nobody has answered for a lane for so long, elections are not why: the lanes are made again
)

// crew is one Work: a loop that pulls calls, and a goroutine for each call in hand.
// A call needs room until Run returns; storing what it came to needs none. At most
// AtOnce calls do the former, and as many the latter.
type crew struct {
	*Client
	WorkConfig
	turns turns
	inbox string // pulls of lane n are answered at inbox.n

	delivered chan *nats.Msg
	ran       chan struct{} // a call no longer needs room
	done      chan struct{} // a call is no longer in hand
	running   int
	inHand    int
	shut      bool             // there was no room for one more when that was last asked
	unheard   [Lanes]time.Time // since when nobody answers for a lane; zero = somebody does

	mu    sync.Mutex
	hands map[*hand]struct{}
}

// Work takes and runs calls of one function until ctx ends. Then it takes no more,
// lets those that run finish, and returns nil. Errors are of the WorkConfig. A queue
// that cannot be reached is no error: it waits for it.
func (c *Client) Work(ctx context.Context, w WorkConfig) error {
	if err := w.Function.Validate(); err != nil {
		return fmt.Errorf("work on queued calls: %w", err)
	}
	if w.AtOnce < 1 || w.Room == nil || w.Run == nil {
		return fmt.Errorf("work on queued calls of %s: %d at once, Room %t, Run %t: want 1 or more, and both", w.Function, w.AtOnce, w.Room != nil, w.Run != nil)
	}
	if !c.makeLanes(ctx, w.Function) {
		return nil
	}
	k := &crew{
		Client: c, WorkConfig: w, inbox: c.nc.NewInbox(),
		delivered: make(chan *nats.Msg, 8*Lanes), // each lane has at most a pull under way and some that were taken for lost
		ran:       make(chan struct{}, 2*w.AtOnce), done: make(chan struct{}, 2*w.AtOnce),
		hands: make(map[*hand]struct{}),
	}
	pulls, err := c.nc.ChanSubscribe(k.inbox+".*", k.delivered)
	if err != nil {
		return asProblem(err)
	}
	cancels, err := c.nc.Subscribe(cancelPrefix+"*", func(m *nats.Msg) { k.cancelled(strings.TrimPrefix(m.Subject, cancelPrefix)) })
	if err != nil {
		_ = pulls.Unsubscribe()
		return asProblem(err)
	}
	k.loop(ctx)
	k.settle()
	_ = pulls.Unsubscribe()
	for k.inHand > 0 {
		<-k.done
		k.inHand--
	}
	_ = cancels.Unsubscribe()
	return nil
}

func laneName(function lightcone.FunctionName, lane int) string {
	return string(function) + "-" + strconv.Itoa(lane)
}

// laneIdles is when a lane that nobody asks for calls is removed, as of a function that was
// taken away. Its calls stay, in order, for whoever makes it again; those that were in hand or
// backed off have been over for long.
func laneIdles(l Limits) time.Duration { return 4 * l.MaxAge }

// makeLanes makes the consumers of the function's lanes, and says whether it could
// before ctx ended.
func (c *Client) makeLanes(ctx context.Context, function lightcone.FunctionName) bool {
	for failures := 1; ; failures++ {
		var err error
		for lane := 0; lane < Lanes && err == nil; lane++ {
			try, cancel := context.WithTimeout(ctx, 2*tryFor)
			_, err = c.js.CreateOrUpdateConsumer(try, workStream, jetstream.ConsumerConfig{
				Durable:       laneName(function, lane),
				FilterSubject: workSubject(function, lane, "*"),
				AckPolicy:     jetstream.AckExplicitPolicy,
				AckWait:       c.limits.Silence,
				MaxDeliver:    -1,                          // the record counts attempts
				MaxAckPending: c.limits.TenantShare + 1000, // more than one tenant can have in hand or in back-off

				InactiveThreshold: laneIdles(c.limits),
			})
			cancel()
		}
		if err == nil {
			return true
		}
		if failures%20 == 2 {
			c.logger.Info("the queue's lanes cannot be made yet", "function", function, "error", err)
		}
		if retry.Pause(ctx, retry.BackOff(failures, 100*time.Millisecond, 2*time.Second, rand.Float64())) != nil {
			return false
		}
	}
}

// loop pulls and hands out until ctx ends.
func (k *crew) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		k.pull()
		timer.Reset(k.untilWake())
		select {
		case m := <-k.delivered:
			k.take(m)
		case <-k.ran:
			k.running--
		case <-k.done:
			k.inHand--
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// room is for how many more calls there is room.
func (k *crew) room() int {
	room := min(k.AtOnce-k.running, 2*k.AtOnce-k.inHand)
	if k.shut = room > 0 && (k.store.room().filled >= runBelow || !k.Room()); k.shut {
		return 0
	}
	return max(room, 0)
}

// untilWake is how long nothing has to be done unless something happens.
func (k *crew) untilWake() time.Duration {
	wait := time.Minute
	if wake := k.turns.wake(); !wake.IsZero() {
		wait = time.Until(wake)
	}
	if k.shut {
		again := idleEvery
		if k.turns.work() {
			again = roomEvery
		}
		wait = min(wait, again)
	}
	return max(wait, 0)
}

// pull sends the pulls that are due.
func (k *crew) pull() {
	now := time.Now()
	for _, p := range k.turns.plan(k.room(), now) {
		ask := map[string]any{"batch": 1, "no_wait": true}
		if p.wait {
			ask = map[string]any{"batch": 1, "expires": waitExpires.Nanoseconds()}
		}
		if err := k.ask(k.Function, p.lane, k.inbox+"."+strconv.Itoa(p.lane), ask); err != nil {
			k.turns.failed(p.lane, now)
		}
	}
}

// ask sends a pull for a lane, which is answered at inbox.
func (c *Client) ask(function lightcone.FunctionName, lane int, inbox string, pull map[string]any) error {
	body, err := json.Marshal(pull)
	if err != nil {
		return err
	}
	return c.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+workStream+"."+laneName(function, lane), inbox, body)
}

// take takes an answer to a pull in.
func (k *crew) take(m *nats.Msg) {
	if text, isStatus := strings.CutPrefix(m.Subject, k.inbox+"."); isStatus {
		lane, _ := strconv.Atoi(text) // the loop's own
		switch m.Header.Get("Status") {
		case "404", "408":
			k.unheard[lane] = time.Time{}
			k.turns.none(lane, time.Now())
		case "503": // no leader now, or no such lane any more
			k.turns.failed(lane, time.Now())
			k.remake(lane, time.Now())
		default:
			k.turns.failed(lane, time.Now())
		}
		return
	}
	parts := strings.Split(m.Subject, ".")
	if lane, err := strconv.Atoi(parts[2]); err == nil && lane < Lanes {
		k.unheard[lane] = time.Time{}
		k.turns.called(lane)
	}
	if k.room() == 0 { // a call that nobody runs must not wait here
		k.taken(m).giveBack(0)
		return
	}
	k.running++
	k.inHand++
	h := &hand{crew: k, taken: k.taken(m)}
	k.background.Go(func() { h.work(m) })
}

// remake makes the lanes again when nobody has answered for one of them for long: it may
// have been removed, or what the nodes kept been lost, and be new.
func (k *crew) remake(lane int, now time.Time) {
	switch {
	case k.unheard[lane].IsZero():
		k.unheard[lane] = now
	case now.Sub(k.unheard[lane]) > unheardMost:
		k.unheard = [Lanes]time.Time{}
		k.logger.Warn("nobody answers for a lane of the queue; the lanes are made again", "function", k.Function, "lane", lane)
		k.background.Go(func() {
			ctx, cancel := context.WithTimeout(k.ending, unheardMost)
			defer cancel()
			k.makeLanes(ctx, k.Function)
		})
	}
}

// settle gives back what still arrives after the end. It waits for the pulls that are
// answered at once; those that wait end with their subscription, and a call that comes
// to one in that moment is delivered again when Limits.Silence is over.
func (k *crew) settle() {
	lapsed := time.NewTimer(askLapses)
	defer lapsed.Stop()
	for k.turns.asked() > 0 {
		select {
		case m := <-k.delivered:
			k.running = k.AtOnce // there is no room for it
			k.take(m)
		case <-lapsed.C:
			return
		}
	}
}

func (k *crew) taken(m *nats.Msg) taken { return taken{nc: k.nc, reply: m.Reply} }

func (k *crew) join(h *hand) {
	k.mu.Lock()
	k.hands[h] = struct{}{}
	k.mu.Unlock()
}

func (k *crew) leave(h *hand) {
	k.mu.Lock()
	delete(k.hands, h)
	k.mu.Unlock()
}

// cancelled kills the attempts at a call.
func (k *crew) cancelled(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for h := range k.hands {
		if h.job.ID.String() == id {
			h.kill()
		}
	}
}
