package queue

import (
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLeftovers(t *testing.T) {
	here := func(name string) member { return member{id: name, name: name, current: true} }
	gone := func(name string) member { return member{id: name, name: name, gone: true} }
	for _, c := range []struct {
		name    string
		members []member
		want    string
	}{
		{"all are there", []member{here("0-a"), here("1-b"), here("2-c")}, "[]"},
		{"one is away, and nobody has its seat", []member{here("0-a"), here("1-b"), gone("2-c")}, "[]"},
		{"its seat is taken", []member{here("0-a"), here("1-b"), gone("2-c"), here("2-d")}, "[2-c]"},
		{"its seat is taken, by one who has to catch up", []member{here("0-a"), here("1-b"), gone("2-c"), {id: "2-d", name: "2-d"}}, "[]"},
		{"its seat was taken, by one who is away, too", []member{here("0-a"), here("1-b"), gone("2-c"), gone("2-d")}, "[]"},
		{"the leader does not know it, and all seats are taken", []member{here("0-a"), here("1-b"), {id: "x", gone: true}, here("2-d")}, "[x]"},
		{"the leader does not know it, and it may have the third seat", []member{here("0-a"), here("1-b"), {id: "x", gone: true}}, "[]"},
		{"two have one seat, and both are there", []member{here("0-a"), here("1-b"), here("2-c"), here("2-d")}, "[]"},
	} {
		left := []string{}
		for _, m := range leftovers(c.members, 3) {
			left = append(left, m.id)
		}
		if got := fmt.Sprint(left); got != c.want {
			t.Errorf("%s: %s are removed, want %s", c.name, got, c.want)
		}
	}
}

// Whoever is there stays, and no seat that somebody had is left without one.
func TestLeftoversNeverEmptyASeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var members []member
		for i := range rapid.IntRange(1, 7).Draw(t, "members") {
			m := member{id: fmt.Sprint(i), gone: rapid.Bool().Draw(t, "gone"), current: rapid.Bool().Draw(t, "current")}
			if rapid.Bool().Draw(t, "known") {
				m.name = fmt.Sprintf("%d-%d", rapid.IntRange(0, 2).Draw(t, "seat"), i)
			}
			members = append(members, m)
		}
		removed := make(map[string]bool)
		for _, m := range leftovers(members, 3) {
			removed[m.id] = true
			if !m.gone {
				t.Fatalf("%+v is removed, and is there", m)
			}
		}
		seats, after := make(map[string]bool), make(map[string]bool)
		for _, m := range members {
			if m.name != "" {
				seats[seatOf(m.name)] = true
				after[seatOf(m.name)] = after[seatOf(m.name)] || !removed[m.id]
			}
		}
		for seat := range seats {
			if !after[seat] {
				t.Fatalf("nobody has the seat %s any more", seat)
			}
		}
	})
}

func TestSilence(t *testing.T) {
	s, begin := make(silence), time.Now()
	for _, c := range []struct {
		after time.Duration
		heard bool
		gone  bool
	}{
		{0, false, false}, {goneAfter - 1, false, false}, {goneAfter, false, true}, {goneAfter + 1, true, false},
		{3 * goneAfter, false, false}, {4*goneAfter - 1, false, false}, {4 * goneAfter, false, true},
	} {
		if got := s.gone("x", c.heard, begin.Add(c.after)); got != c.gone {
			t.Errorf("after %v, heard %v: gone is %v", c.after, c.heard, got)
		}
	}
}

func TestALostDiskIsFilledAgain(t *testing.T) {
	c := startCluster(t, 3)
	js := c.connect()
	eventuallyEnsure(t, js)
	whole(t, js, callsStream, 3)
	publish(t, js, 0, 1000)

	// The one that leads, so that its successor never hears of it.
	lost := c.leader(js, callsStream)
	lost.Stop()
	publish(t, js, 1000, 1)
	if err := os.RemoveAll(lost.config.Dir); err != nil {
		t.Fatal(err)
	}
	lost.Start()
	for _, stream := range []string{callsStream, workStream, keysStream, "OBJ_" + inputsBucket} {
		whole(t, js, stream, 3)
	}

	for _, other := range c.nodes {
		if other != lost {
			other.Kill()
			break
		}
	}
	publish(t, js, 1001, 1)
	if got := kept(t, js, callsStream); got != 1002 {
		t.Errorf("after the loss of a disk and of another node, %d calls of 1002 are left", got)
	}
}
