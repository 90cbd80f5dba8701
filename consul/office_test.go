package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"lightcone/internal/retry"
)

// The tests' terms are short, so that nobody waits long: Consul gives the lock of
// a leader that fell silent to another after up to 2 TTL, and the lock delay.
const (
	testTTL       = 3 * time.Second
	testLockDelay = time.Second
	testTakeover  = 2*testTTL + testLockDelay + 15*time.Second // the rest is for a busy machine
	officeKey     = "lightcone/scheduler/leader"
	counterKey    = "lightcone/scheduler/counter"
)

// count is the value of the counter: each effect carries its epoch and says what
// it found.
type count struct {
	Epoch uint64
	N     int
	By    string
	Bad   string // an effect of an older epoch than the one before it
}

// office watches candidates who all work on one counter, in this process, whose
// one clock can compare their terms.
type office struct {
	t  *testing.T
	mu sync.Mutex
	// trusted has, for each epoch, the first and last moments at which its leader
	// saw itself trusted.
	trusted map[uint64][2]time.Time
	last    string // the name of the last candidate whose effect went through
	lastN   int
}

func newOffice(t *testing.T) *office {
	return &office{t: t, trusted: make(map[uint64][2]time.Time)}
}

// stand lets a candidate stand until the test ends or the returned function is called.
func (o *office) stand(name string, c *Client, config ElectionConfig) (resign func()) {
	o.t.Helper()
	config.Key, config.Name, config.TTL = officeKey, name, testTTL
	if config.LockDelay == 0 {
		config.LockDelay = testLockDelay
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- NewElection(c, config).Run(ctx, func(ctx context.Context, term Term) error {
			o.work(ctx, name, c, term)
			return nil
		})
	}()
	resign = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			o.t.Errorf("%s: %v", name, err)
		}
	})
	o.t.Cleanup(resign)
	return resign
}

func (o *office) work(ctx context.Context, name string, c *Client, term Term) {
	for ctx.Err() == nil {
		looked := time.Now()
		if !term.Trusted() {
			return
		}
		o.sawTrust(term.Epoch(), looked)
		if now, err := o.add(ctx, name, c, term); err == nil {
			o.mu.Lock()
			o.last, o.lastN = name, now
			o.mu.Unlock()
		}
		_ = retry.Pause(ctx, 20*time.Millisecond)
	}
}

func (o *office) sawTrust(epoch uint64, moment time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen, ok := o.trusted[epoch]
	if !ok {
		seen[0] = moment
	}
	seen[1] = moment
	o.trusted[epoch] = seen
}

// add is one effect; it answers the counter after it.
func (o *office) add(ctx context.Context, name string, c *Client, term Term) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	entry, _, err := c.Get(ctx, counterKey)
	if err != nil {
		return 0, err
	}
	var before count
	if entry.Value != nil {
		if err := json.Unmarshal(entry.Value, &before); err != nil {
			return 0, err
		}
	}
	after := count{Epoch: term.Epoch(), N: before.N + 1, By: name, Bad: before.Bad}
	if before.Epoch > after.Epoch {
		after.Bad = fmt.Sprintf("epoch %d wrote after %d", after.Epoch, before.Epoch)
	}
	value, err := json.Marshal(after)
	if err != nil {
		return 0, err
	}
	ok, err := term.PutFenced(ctx, counterKey, value, entry.Index)
	if err == nil && !ok {
		err = fmt.Errorf("somebody else wrote")
	}
	return after.N, err
}

// leader is who had the last effect, and how many there were.
func (o *office) leader() (name string, effects int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last, o.lastN
}

// awaitEffect waits for some effects after those so far, the last by somebody who fits.
func (o *office) awaitEffect(bound time.Duration, what string, fits func(name string) bool) string {
	o.t.Helper()
	_, before := o.leader()
	var name string
	eventually(o.t, bound, what, func() bool {
		var now int
		name, now = o.leader()
		return now > before+5 && fits(name)
	})
	return name
}

// verify checks what must hold whatever happened: no two leaders were ever
// trusted at one time, and the counter's epochs never went back. It answers how
// many terms there were.
func (o *office) verify(c *Client) (terms int) {
	o.t.Helper()
	entry, found, err := c.Get(context.Background(), counterKey)
	var counted count
	if err != nil || !found || json.Unmarshal(entry.Value, &counted) != nil || counted.Bad != "" {
		o.t.Errorf("the counter is %s, %v", entry.Value, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for early, earlier := range o.trusted {
		for late, later := range o.trusted {
			if early < late && !later[0].After(earlier[1]) {
				o.t.Errorf("epoch %d was trusted until %v, epoch %d from %v before", early, earlier[1], late, earlier[1].Sub(later[0]))
			}
		}
	}
	o.t.Logf("%d effects in %d terms", counted.N, len(o.trusted))
	return len(o.trusted)
}
