package queue

import (
	"context"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
)

// A kind that cannot be weighed, as when nobody leads its stream, must not hide who has too
// much of the others: nor may a node that has just begun to lead.
func TestAKindThatCannotBeWeighedHidesNoOther(t *testing.T) {
	limits := testLimits
	limits.MaxBytes = 16 << 20
	b := oneNode(t)
	c := b.connect(limits)
	for range 5 { // a quarter of 16 MiB is less
		result := "acme." + queued(t, "").Call.ID.String()
		if err := c.warehouse.put(t.Context(), resultsBucket, result, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.store.bury(t.Context(), &letter{Job: job{ID: queued(t, "").Call.ID, Tenant: "other"}}, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	lose := func(stream string) {
		t.Helper()
		if err := c.js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	want := map[lightcone.TenantID]excess{"acme": {Of: "large results", Far: true}, "other": {Of: "dead letters", Far: true}}
	looks := func(w *weigher, when string) (sequence uint64) { // of what is said then
		t.Helper()
		if err := w.look(t.Context(), c); err == nil {
			t.Fatalf("%s: everything could be weighed", when)
		}
		if got, err := c.store.askBeyond(t.Context()); err != nil || !maps.Equal(got, want) {
			t.Fatalf("%s: %+v, %v; want %+v", when, got, err, want)
		}
		m, err := c.store.directGet(t.Context(), callsStream, beyondSubject)
		if err == nil {
			sequence, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		}
		if err != nil {
			t.Fatal(err)
		}
		return sequence
	}
	lose("OBJ_" + inputsBucket)
	first := new(weigher)
	looks(first, "a kind that was never weighed")
	lose(deadStream)
	said := looks(first, "a kind that was weighed before")
	if again := looks(new(weigher), "a new leader"); again <= said {
		t.Errorf("a new leader has not said again what was said: message %d, before %d", again, said)
	}
}

// A stream that has about as much as it is weighed from is not read whole again and again.
func TestAStreamIsWeighedUntilItHasMuchLess(t *testing.T) {
	var s scale
	for _, step := range []struct {
		bytes uint64
		want  bool
	}{{49, false}, {50, true}, {49, true}, {25, true}, {24, false}, {49, false}, {50, true}} {
		if s.begun = s.worth(step.bytes, 100); s.begun != step.want {
			t.Errorf("with %d bytes and a share of 100: %t", step.bytes, s.begun)
		}
	}
}

func TestWhatIsReadAnewRests(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{time.Millisecond: 20 * time.Millisecond, time.Second: 10 * time.Second, time.Minute: 10 * time.Second} {
		if got := restAfter(took); got != want {
			t.Errorf("after %v it rests for %v, want %v", took, got, want)
		}
	}
	b := oneNode(t)
	c := b.connect(testLimits)
	var s scale
	for _, k := range kinds(c.limits) {
		if k.stream == deadStream {
			s.kind = k
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.weigh(ended, c.js); err == nil || !s.rests.IsZero() {
		t.Errorf("it could not be read (%v), and rests until %v", err, s.rests)
	}
	if _, err := s.weigh(t.Context(), c.js); err != nil || s.rests.IsZero() {
		t.Errorf("it was read (%v), and rests until %v", err, s.rests)
	}
}
