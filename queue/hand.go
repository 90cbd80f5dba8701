package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// taken is a message of a pull, as the protocol's delivery.
type taken struct {
	nc    *nats.Conn
	reply string // where its acknowledgements go
}

// acknowledge asks until the nodes confirm, or ctx ends: then the message comes again,
// and its record says that it has ended.
func (t taken) acknowledge(ctx context.Context) error {
	for failures := 1; ; failures++ {
		try, cancel := context.WithTimeout(ctx, tryFor)
		_, err := t.nc.RequestWithContext(try, t.reply, []byte("+ACK"))
		cancel()
		if err == nil {
			return nil
		}
		if retry.Pause(ctx, retry.BackOff(failures, 50*time.Millisecond, time.Second, 1)) != nil {
			return fmt.Errorf("queue: acknowledge: %w", err)
		}
	}
}

// giveBack may be lost: then the message is delivered again when Limits.Silence is over.
func (t taken) giveBack(wait time.Duration) {
	_ = t.nc.Publish(t.reply, []byte(`-NAK {"delay": `+strconv.FormatInt(wait.Nanoseconds(), 10)+`}`))
}

// keep says that the message is being worked on.
func (t taken) keep() { _ = t.nc.Publish(t.reply, []byte("+WPI")) }

// hand sees one delivered call through.
type hand struct {
	crew *crew
	taken
	job   job
	input []byte    // nil when it is far
	once  sync.Once // the call has given its room back

	attempt atomic.Int64 // number of the attempt that runs; 0 = none has begun

	alive context.Context // ends when the attempt is to be killed
	kill  context.CancelFunc
}

func (h *hand) giveRoomBack() { h.once.Do(func() { h.crew.ran <- struct{}{} }) }

// work runs the call of a message.
func (h *hand) work(m *nats.Msg) {
	defer func() { h.crew.done <- struct{}{} }()
	defer h.giveRoomBack()
	run := h.run
	tenant := lightcone.TenantID(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	if e := h.crew.store.room().beyond[tenant]; e.Far { // a call that waited for room would be in the way of others'
		run = func(context.Context, *record) (verdict, functions.Result) {
			h.giveRoomBack()
			return verdictRefused, e.result(tenant)
		}
	}
	_ = h.see(context.Background(), m, run) // it has been given back then
}

// see takes a message to its end, or gives it back and says why. run is the attempt's; nil =
// what is not over is given back.
func (h *hand) see(ctx context.Context, m *nats.Msg, run func(context.Context, *record) (verdict, functions.Result)) error {
	logger := h.crew.logger.With("function", h.crew.Function)
	about, err := m.Metadata()
	if err == nil {
		err = decode(m.Header.Get(headHeader), &h.job)
	}
	if err != nil { // never thrown away: perhaps a newer worker can read it
		logger.Error("a queued call cannot be read", "subject", m.Subject, "error", err)
		h.giveBack(h.crew.limits.BackOffMost)
		return err
	}
	if !h.job.FarInput {
		h.input = m.Data
	}
	h.alive, h.kill = context.WithCancel(context.Background())
	defer h.kill()
	h.crew.join(h)
	var beating sync.WaitGroup
	ended := make(chan struct{})
	beating.Go(func() { h.beat(ended) })
	a := &attempt{protocol: h.crew.protocol, delivery: h, job: &h.job, input: h.input, work: about.Sequence.Stream, run: run, tell: h.crew.Ended}
	err = a.process(ctx)
	close(ended)
	h.crew.leave(h)
	beating.Wait()
	if err != nil {
		if !errors.Is(err, errNotOver) && !errors.Is(err, errUntold) {
			logger.Warn("a queued call's state could not be stored: the call will be taken again", "call", h.job.ID, "error", err)
		}
		h.giveBack(restOf(err, h.crew.limits))
	}
	return err
}

// restOf is for how long a call is given back that could not be seen through.
func restOf(err error, l Limits) time.Duration {
	switch {
	case errors.Is(err, errNotOver):
		return 0
	case errors.Is(err, errUntold):
		return untoldRests(l)
	case errors.Is(err, errFull): // of dead letters, for instance: room comes slowly, and what comes again goes before what is new
		return l.BackOffMost
	default:
		return l.BackOffBase
	}
}

// run gives the call to the function.
func (h *hand) run(_ context.Context, r *record) (verdict, functions.Result) {
	defer h.giveRoomBack()
	h.attempt.Store(int64(r.Attempts))
	var answer functions.Answer
	body, err := h.body()
	if err == nil {
		deadline := r.StartedAt.Add(h.job.Timeout)
		ctx, cancel := context.WithDeadline(h.alive, deadline)
		defer cancel()
		var unknown *problem.Error
		attempt := r.Generation*h.crew.limits.Attempts + r.Attempts // as if earlier generations had used all of theirs
		err = h.crew.Run(ctx, h.job.call(body, deadline, attempt), &answer)
		if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &unknown) {
			err = problem.New(problem.DeadlineExceeded, "The call was stopped after %v.", h.job.Timeout).Because(err)
		}
	}
	return judge(err, &answer)
}

// body is the input, wherever it lies.
func (h *hand) body() ([]byte, error) {
	if !h.job.FarInput {
		return h.input, nil
	}
	ctx, cancel := context.WithTimeout(h.alive, h.crew.limits.Patience)
	defer cancel()
	body, err := h.crew.Client.warehouse.get(ctx, inputsBucket, inputName(h.job.Tenant, h.job.ID))
	switch {
	case err != nil:
		return nil, unavailable("The call's input could not be fetched.", err)
	case body == nil:
		return nil, problem.New(problem.Internal, "The call's input is not in the queue's store any more.")
	}
	return body, nil
}

// beat keeps the message while it is in hand, and kills an attempt at a call that was
// cancelled, or that another attempt has taken over, in case word of it was lost.
func (h *hand) beat(ended <-chan struct{}) {
	ticker := time.NewTicker(h.crew.limits.Silence / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		h.keep()
		ctx, cancel := context.WithTimeout(h.alive, tryFor)
		found, err := h.crew.ledger.read(ctx, h.job.Tenant, h.job.ID)
		cancel()
		if err == nil && found.record != nil && h.pointless(found.record) {
			h.kill()
		}
	}
}

// pointless says whether nobody waits for this attempt any more, as a record tells it,
// which may be behind.
func (h *hand) pointless(r *record) bool {
	mine := int(h.attempt.Load())
	return r.Status == lightcone.InvocationCancelled || r.Generation > h.job.Generation ||
		mine > 0 && r.Generation == h.job.Generation && r.Attempts > mine
}
