package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// bill keeps what workers tell of calls that have ended.
type bill struct {
	mu   sync.Mutex
	told []lightcone.UsageRecord
	fail func() error // asked before a record is kept
}

func (b *bill) ended(used *lightcone.UsageRecord) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(); err != nil {
			return err
		}
	}
	b.told = append(b.told, *used)
	return nil
}

func (b *bill) records() []lightcone.UsageRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]lightcone.UsageRecord(nil), b.told...)
}

// billed lets c work on echo for bills.
func (b *bed) billed(c *Client, bill *bill, run function) (stop func()) {
	b.t.Helper()
	return b.workAs(c, WorkConfig{Function: "echo", AtOnce: 4, Room: func() bool { return true }, Run: run, Ended: bill.ended})
}

// emptied waits until the queue has let go of all its calls.
func (b *bed) emptied(c *Client) {
	b.t.Helper()
	eventually(b.t, "an empty queue", func(context.Context) error {
		if left := kept(b.t, c.js, workStream); left != 0 {
			return fmt.Errorf("%d messages", left)
		}
		return nil
	})
}

// TestWhatACallSpentIsTold runs calls to each end, and looks at what there is to pay.
func TestWhatACallSpentIsTold(t *testing.T) {
	limits := testLimits
	limits.Attempts = 2
	b := oneNode(t)
	c := b.connect(limits)
	var told bill
	run := func(_ context.Context, call *functions.Call, answer *functions.Answer) error {
		answer.CPU, answer.Exec = 3*time.Millisecond, 4*time.Millisecond
		switch string(call.Body) {
		case "crash":
			return problem.New(problem.FunctionCrashed, "It died.")
		case "late":
			return problem.New(problem.DeadlineExceeded, "It took too long.")
		case "lost":
			return problem.New(problem.WorkerLost, "It is gone.")
		case "quarantined":
			return problem.New(problem.Quarantined, "It is not run.")
		case "refused":
			answer.Status, answer.Problem, answer.Body = 500, problem.CorruptInput, []byte("Damaged.")
		default:
			answer.Status, answer.Body = 200, []byte("good answer")
		}
		return nil
	}
	b.billed(c, &told, run)
	for _, test := range []struct {
		body    string
		ends    lightcone.InvocationStatus
		outcome lightcone.Outcome // "" = nothing to pay
		out     int64
	}{
		{"good", lightcone.InvocationSucceeded, lightcone.OutcomeAnswered, 11},
		{"refused", lightcone.InvocationFailed, lightcone.OutcomeAnswered, 8},
		{"crash", lightcone.InvocationDead, lightcone.OutcomeFailed, 0},
		{"late", lightcone.InvocationDead, lightcone.OutcomeTimeout, 0},
		{"lost", lightcone.InvocationDead, "", 0},
		{"quarantined", lightcone.InvocationFailed, "", 0},
	} {
		before := len(told.records())
		q := queued(t, test.body)
		b.accept(c, q)
		ended := b.until(c, q.Call.ID, test.ends)
		b.emptied(c)
		got := told.records()[before:]
		if test.outcome == "" {
			if len(got) > 0 {
				t.Errorf("%s: %+v, and there is nothing to pay", test.body, got)
			}
			continue
		}
		start := q.Call.ID.Time().UTC()
		want := []lightcone.UsageRecord{{
			Call: q.Call.ID, Tenant: "acme", Function: "echo", Outcome: test.outcome, Start: start, Duration: ended.FinishedAt.Sub(start),
			Used: lightcone.Usage{CPU: 3 * time.Millisecond, BytesIn: int64(len(test.body)), BytesOut: test.out},
		}}
		if difference := cmp.Diff(want, got); difference != "" {
			t.Errorf("%s (-want +got):\n%s", test.body, difference)
		}
	}
}

// TestWhatIsToldAgainIsTheSame kills workers between the end of a call and the
// message's: what they tell, and what others tell after them, is one record.
func TestWhatIsToldAgainIsTheSame(t *testing.T) {
	limits := testLimits
	limits.Silence, limits.Attempts = 2*time.Second, 1
	for name, test := range map[string]struct {
		run  function
		ends lightcone.InvocationStatus
	}{
		"succeeded": {echo, lightcone.InvocationSucceeded},
		"dead":      {crash, lightcone.InvocationDead},
	} {
		t.Run(name, func(t *testing.T) {
			b := oneNode(t)
			c, lost := b.connect(limits), b.connect(limits)
			var told bill
			dying := bill{fail: func() error {
				lost.nc.Close() // as a kill does: its message is nobody's until the queue notices
				return nil
			}}
			stop := b.billed(lost, &dying, test.run)
			q := queued(t, "precious")
			b.accept(c, q)
			eventually(t, "the first word", func(context.Context) error {
				if len(dying.records()) == 0 {
					return errors.New("nothing yet")
				}
				return nil
			})
			stop()
			runs := 0
			b.billed(c, &told, func(context.Context, *functions.Call, *functions.Answer) error {
				runs++
				return errors.New("a call that has ended is not run")
			})
			b.emptied(c)
			ended := b.until(c, q.Call.ID, test.ends)
			if difference := cmp.Diff(dying.records(), told.records()); difference != "" || len(told.records()) != 1 || runs != 0 {
				t.Errorf("%d runs, %+v (-first +again):\n%s", runs, ended, difference)
			}
		})
	}
}

func TestALedgerThatFailsPutsTheEndOff(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	failures, runs := 3, 0
	told := bill{fail: func() error {
		if failures--; failures >= 0 {
			return errors.New("the ledger is full")
		}
		return nil
	}}
	b.billed(c, &told, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		runs++
		return echo(ctx, call, answer)
	})
	q := queued(t, "a")
	b.accept(c, q)
	b.emptied(c)
	if got := told.records(); len(got) != 1 || failures >= 0 || runs != 1 {
		t.Errorf("%d runs, %d failures left, told of %+v", runs, failures, got)
	}
}

func TestACancelledCallPaysForWhatRan(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	var told bill
	started := make(chan struct{}, 1)
	b.billed(c, &told, func(ctx context.Context, _ *functions.Call, answer *functions.Answer) error {
		started <- struct{}{}
		<-ctx.Done()
		answer.CPU = 5 * time.Millisecond
		return problem.New(problem.Cancelled, "The call was cancelled.")
	})
	q := queued(t, "long")
	b.accept(c, q)
	<-started
	if _, err := c.Cancel(t.Context(), "acme", q.Call.ID); err != nil {
		t.Fatal(err)
	}
	b.emptied(c)
	got := told.records()
	if len(got) != 1 || got[0].Outcome != lightcone.OutcomeTimeout || got[0].Used != (lightcone.Usage{CPU: 5 * time.Millisecond, BytesIn: 4}) {
		t.Errorf("told of %+v", got)
	}
}

func TestARedriveCostsNothingMore(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c := b.connect(limits)
	var told bill
	stop := b.billed(c, &told, crash)
	q := queued(t, "doomed")
	b.accept(c, q)
	b.until(c, q.Call.ID, lightcone.InvocationDead)
	b.emptied(c)
	stop()
	if _, err := c.Redrive(t.Context(), q.Call.ID); err != nil {
		t.Fatal(err)
	}
	b.billed(c, &told, echo)
	b.until(c, q.Call.ID, lightcone.InvocationSucceeded)
	b.emptied(c)
	got := told.records()
	if len(got) != 2 || got[0] != got[1] || got[0].Outcome != lightcone.OutcomeFailed {
		t.Errorf("told of %+v", got)
	}
}
