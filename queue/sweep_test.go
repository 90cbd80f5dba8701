package queue

import (
	"context"
	"strings"
	"testing"
	"time"

	"lightcone"
)

func TestTheSweepTakesWhatNoCallNeeds(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c := b.connect(limits)
	large := strings.Repeat("x", MostInline+1)
	put := func() lightcone.CallID { // an input whose gateway was killed before the call was queued
		q := queued(t, large)
		j := job{ID: q.Call.ID, Tenant: "acme"}
		if err := c.warehouse.putInput(t.Context(), &j, q.Call.Body); err != nil {
			t.Fatal(err)
		}
		return q.Call.ID
	}
	orphan := put()
	dead := queued(t, large)
	b.accept(c, dead)
	stop := b.work(c, crash)
	b.until(c, dead.Call.ID, lightcone.InvocationDead)
	stop()
	waiting := queued(t, large)
	b.accept(c, waiting)
	ended := queued(t, large)
	ended.Call.Function = "resize"
	b.accept(c, ended)
	b.workAs(c, WorkConfig{Function: "resize", AtOnce: 1, Room: func() bool { return true }, Run: echo})
	b.until(c, ended.Call.ID, lightcone.InvocationSucceeded)
	j := job{ID: ended.Call.ID, Tenant: "acme"} // as if its worker had been killed before it removed it
	eventually(t, "the worker's own removal", func(ctx context.Context) error {
		left, err := c.warehouse.get(ctx, inputsBucket, inputName("acme", ended.Call.ID))
		if err == nil && left != nil {
			err = errOutrun
		}
		return err
	})
	if err := c.warehouse.putInput(t.Context(), &j, []byte(large)); err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		name    string
		later   time.Duration
		removed int
		left    []lightcone.CallID
	}{
		{"at once", 0, 0, []lightcone.CallID{orphan, dead.Call.ID, waiting.Call.ID, ended.Call.ID}},
		{"soon", 11 * time.Minute, 1, []lightcone.CallID{orphan, dead.Call.ID, waiting.Call.ID}},
		{"when it could not run any more", 7 * time.Hour, 1, []lightcone.CallID{dead.Call.ID, waiting.Call.ID}},
	} {
		c.protocol.now = func() time.Time { return time.Now().Add(test.later) }
		if removed, err := c.Sweep(t.Context()); err != nil || removed != test.removed {
			t.Errorf("%s: %d removed, %v; want %d", test.name, removed, err, test.removed)
		}
		for _, id := range test.left {
			if left, err := c.warehouse.get(t.Context(), inputsBucket, inputName("acme", id)); err != nil || len(left) != len(large) {
				t.Errorf("%s: of input %s %d bytes are left, %v", test.name, id, len(left), err)
			}
		}
	}
}

func TestWhatCouldNotBeRemovedDoesNotCountAsSwept(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	if err := c.warehouse.putInput(t.Context(), &job{ID: queued(t, "").Call.ID, Tenant: "acme"}, []byte("never accepted")); err != nil {
		t.Fatal(err)
	}
	inputs, err := c.js.Stream(t.Context(), "OBJ_"+inputsBucket)
	if err != nil {
		t.Fatal(err)
	}
	fixed := inputs.CachedInfo().Config
	fixed.DenyPurge, fixed.AllowRollup = true, false // as if nobody answered
	if _, err := c.js.UpdateStream(t.Context(), fixed); err != nil {
		t.Fatal(err)
	}
	c.protocol.now = func() time.Time { return time.Now().Add(7 * time.Hour) }
	if removed, err := c.Sweep(t.Context()); removed != 0 || err == nil {
		t.Errorf("%d removed, %v", removed, err)
	}
}

// redrivenMeanwhile is a ledger that has a dead call redriven by somebody else just
// before it is read for the first time.
type redrivenMeanwhile struct {
	ledger
	redrive func()
	once    bool
}

func (r *redrivenMeanwhile) readNow(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (entry, error) {
	if !r.once {
		r.once = true
		r.redrive()
	}
	return r.ledger.readNow(ctx, tenant, id)
}

func TestTheSweepLeavesTheInputOfACallThatIsRedrivenMeanwhile(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c, operator := b.connect(limits), b.connect(limits)
	dead := queued(t, strings.Repeat("x", MostInline+1))
	b.accept(c, dead)
	stop := b.work(c, crash)
	b.until(c, dead.Call.ID, lightcone.InvocationDead)
	stop()
	c.protocol.now = func() time.Time { return time.Now().Add(11 * time.Minute) }
	meanwhile := &redrivenMeanwhile{ledger: c.protocol.ledger, redrive: func() {
		if _, err := operator.Redrive(t.Context(), dead.Call.ID); err != nil {
			t.Error(err)
		}
	}}
	c.protocol.ledger = meanwhile
	if removed, err := c.Sweep(t.Context()); err != nil || removed != 0 || !meanwhile.once {
		t.Errorf("%d removed, %v; the call's record was read: %t", removed, err, meanwhile.once)
	}
	b.work(operator, echo)
	b.until(operator, dead.Call.ID, lightcone.InvocationSucceeded)
}

func TestTheSweepTakesWhatWasNeverStoredWhole(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		large := strings.Repeat("x", 3*MostInline)
		waiting := queued(t, large)
		b.accept(c, waiting)
		for _, bucket := range []string{inputsBucket, resultsBucket} {
			for range 3 { // what a gateway or a worker leaves that is killed on the way
				if _, err := c.js.Publish(t.Context(), "$O."+bucket+".C.orphan", []byte(large[:128<<10])); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, test := range []struct {
			later   time.Duration
			removed int
		}{{0, 0}, {11 * time.Minute, 2}, {11 * time.Minute, 0}} {
			c.protocol.now = func() time.Time { return time.Now().Add(test.later) }
			if removed, err := c.Sweep(t.Context()); err != nil || removed != test.removed {
				t.Errorf("after %v: %d removed, %v; want %d", test.later, removed, err, test.removed)
			}
		}
		if left, err := c.warehouse.get(t.Context(), inputsBucket, inputName("acme", waiting.Call.ID)); err != nil || len(left) != len(large) {
			t.Errorf("%d bytes of the input of a call that waits, %v", len(left), err)
		}
	})
}
