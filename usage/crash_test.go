package usage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"lightcone"
	"lightcone/usage/store"
)

var errDead = errors.New("this process is dead")

// mortal is a bucket whose user dies at a step: before a request, or when it is
// done and nobody has heard. Nothing that comes later has any effect.
type mortal struct {
	*store.Bucket
	mu    sync.Mutex
	steps int // still to be taken
	dead  chan struct{}
	once  sync.Once
}

func (m *mortal) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steps--; m.steps < 0 {
		m.once.Do(func() { close(m.dead) })
		return errDead
	}
	return nil
}

func (m *mortal) WriteNew(ctx context.Context, key string, body []byte) error {
	if err := m.step(); err != nil {
		return err
	}
	return errors.Join(m.Bucket.WriteNew(ctx, key, body), m.step())
}

func (m *mortal) Write(ctx context.Context, key string, body []byte) error {
	if err := m.step(); err != nil {
		return err
	}
	return errors.Join(m.Bucket.Write(ctx, key, body), m.step())
}

func (m *mortal) Read(ctx context.Context, key string, most int64) ([]byte, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	return m.Bucket.Read(ctx, key, most)
}

// Whatever step of its shipping a process is killed at, as often as it may be, every
// record is in the bucket once.
func TestTheShipperIsKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	for steps, done := 0, false; !done; steps++ {
		config, _ := configFor(t, t.TempDir())
		config.SealAge = 10 * time.Millisecond
		s := bucketOf(t, config)
		var all []lightcone.UsageRecord
		for life := range 3 {
			m := &mortal{Bucket: s, steps: steps, dead: make(chan struct{})}
			l, err := open(config.withDefaults(), m)
			if err != nil {
				t.Fatal(err)
			}
			some := records(life*30, life*30+30)
			for i := range some[:10] {
				some[i].Start = some[i].Start.Add(time.Hour) // a second object
			}
			all = append(all, some...)
			put(t, l, some)
			await(t, "it is dead, or all is shipped", func() bool {
				select {
				case <-m.dead:
					return true
				default:
					done = idle(l)
					return done
				}
			})
			abandon(l)
		}
		l, err := open(config.withDefaults(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := halt(l); err != nil {
			t.Fatal(err)
		}
		expectStored(t, s, all)
		for key, c := range counts(t, s) {
			if c.Difference() != 0 {
				t.Errorf("killed at step %d: %s: %+v", steps, key, c)
			}
		}
		if t.Failed() || steps > 100 {
			t.Fatalf("after kills at step %d", steps)
		}
	}
}

// A start asks the bucket about no hour that was closed and sent before.
func TestAStartLeavesClosedHoursAlone(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	config = config.withDefaults()
	s := bucketOf(t, config)
	l, err := open(config, s)
	if err != nil {
		t.Fatal(err)
	}
	all := records(0, 30)
	for i := range all {
		all[i].Start = past.Add(-time.Duration(i) * time.Hour)
	}
	put(t, l, all)
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	m := &mortal{Bucket: s, steps: 1000, dead: make(chan struct{})}
	if l, err = open(config, m); err != nil {
		t.Fatal(err)
	}
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	if used := 1000 - m.steps; used > 8 { // that it is there, and of the present hour, and of the next if it has just begun
		t.Errorf("%d requests", used)
	}
}

// waiting is how many segments, and records of the one that is written, the bucket
// does not have.
func waiting(l *Ledger) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := len(l.closing) + len(l.sealed)
	if l.active != nil {
		waiting += int(l.active.count)
	}
	return waiting
}

// idle says whether all that was appended is in the bucket, counts included.
func idle(l *Ledger) bool {
	if waiting(l) > 0 {
		return false
	}
	hours, err := l.tally.due(l.config.clock(), l.closedHours(l.config.clock(), false))
	return err == nil && len(hours) == 0
}

// An object that a later version of the encoder wrote otherwise is the same object
// if its records are.
func TestTheSameRecordsInOtherBytes(t *testing.T) {
	t.Parallel()
	o := Object{Node: "gw-1", Hour: past, Sequence: 1}
	a := encodeRecords(t, o, records(0, 600))
	if again := encodeRecords(t, o, records(0, 600)); !bytes.Equal(a, again) {
		t.Error("the same records make other bytes")
	}
	e := NewEncoder() // which must make of its second object what it made of its first
	for range 2 {
		if again := encodeWith(t, e, o, records(0, 600)); !bytes.Equal(a, again) {
			t.Error("an encoder that was used makes other bytes")
		}
	}
	if same, readable := sameRows(a, encodeRecords(t, o, records(0, 600)), o); !same || !readable {
		t.Error("the same records are not the same")
	}
	if same, readable := sameRows(a, encodeRecords(t, o, records(0, 599)), o); same || !readable {
		t.Error("one record less is the same")
	}
	if same, readable := sameRows(a[:len(a)-9], a, o); same || readable {
		t.Error("a damaged object is readable")
	}
}

// encodeRecords is an object with these records.
func encodeRecords(t testing.TB, o Object, all []lightcone.UsageRecord) []byte {
	t.Helper()
	return encodeWith(t, NewEncoder(), o, all)
}

func encodeWith(t interface{ Fatal(...any) }, e *Encoder, o Object, all []lightcone.UsageRecord) []byte {
	var into bytes.Buffer
	rows := make([]Row, len(all))
	for i, r := range all {
		rows[i] = RowOf(r)
	}
	if n, err := e.Encode(&into, o, slices.Values(rows)); err != nil || n != len(all) {
		t.Fatal(n, err)
	}
	return into.Bytes()
}
