package queue

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
)

func TestTenantsHaveLanesOfTheirOwn(t *testing.T) {
	const tenants = 2000
	var used [Lanes]int
	shared, apart := 0, 0
	var before [LanesPerTenant]int
	for i := range tenants {
		drawn := lanesOf("resize", lightcone.TenantID(fmt.Sprintf("tenant-%d", i)))
		if drawn[0] == drawn[1] {
			t.Fatalf("tenant %d: the same lane twice: %v", i, drawn)
		}
		if drawn != lanesOf("resize", lightcone.TenantID(fmt.Sprintf("tenant-%d", i))) {
			t.Fatal("drawn otherwise the second time")
		}
		for _, lane := range drawn {
			used[lane]++
		}
		if i > 0 {
			switch equal := overlap(before, drawn); equal {
			case 2:
				shared++
			case 0:
				apart++
			}
		}
		before = drawn
	}
	for lane, n := range used { // evenly: 500 each, with a standard deviation of 19
		if n < 400 || n > 600 {
			t.Errorf("lane %d is drawn %d times", lane, n)
		}
	}
	// 1 of 28 pairs, and 15 of 28.
	if shared < tenants/28/2 || shared > tenants/28*2 || apart < tenants*13/28 || apart > tenants*17/28 {
		t.Errorf("of %d pairs %d share both lanes and %d none", tenants, shared, apart)
	}
}

func overlap(a, b [LanesPerTenant]int) (n int) {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				n++
			}
		}
	}
	return n
}

func TestTheShorterLaneIsTriedFirst(t *testing.T) {
	s := lengths{heard: make(map[lightcone.FunctionName]*heardLengths)}
	lanes := lanesOf("echo", "acme")
	order, stale := s.choose("echo", "acme", epoch)
	if order != lanes || !stale {
		t.Errorf("knowing nothing: %v, stale %t", order, stale)
	}
	if order, stale = s.choose("echo", "acme", epoch); order[0] != lanes[1] || stale {
		t.Errorf("after one call there: %v, stale %t: somebody is asking already", order, stale)
	}
	var waiting [Lanes]int
	waiting[lanes[0]], waiting[lanes[1]] = 10, 13
	s.hear("echo", waiting, true, epoch)
	for i := range 3 {
		if order, _ = s.choose("echo", "acme", epoch); order[0] != lanes[0] {
			t.Errorf("call %d went to %v of %v", i, order, lanes)
		}
	}
	s.choose("echo", "acme", epoch) // 13 and 13
	if order, _ = s.choose("echo", "acme", epoch); order[0] != lanes[1] {
		t.Errorf("the longer lane is tried first: %v", order)
	}
	if _, stale = s.choose("echo", "acme", epoch.Add(lengthsStay+1)); !stale {
		t.Error("what was heard long ago is not asked for again")
	}
	s.hear("echo", waiting, false, epoch.Add(lengthsStay+1))
	if _, stale = s.choose("echo", "acme", epoch.Add(lengthsStay+2)); stale {
		t.Error("asked again at once after a failure")
	}
}

// TestEveryLaneHasItsTurn: whatever comes into the lanes and from them, a worker never has
// more asks under way than room, and a lane with calls, also one that had none when it
// was asked, is asked before any other is asked twice, or somebody waits there.
func TestEveryLaneHasItsTurn(t *testing.T) {
	const step = 20 * time.Millisecond
	rapid.Check(t, func(t *rapid.T) {
		var worker turns
		now := epoch
		var calls [Lanes]int
		for lane := range calls {
			calls[lane] = rapid.SampledFrom([]int{0, 1, 5, 100}).Draw(t, "calls")
		}
		var asked, waits [Lanes]bool
		var since [Lanes]int // asks of others since a lane with calls was asked and has answered
		var empty [Lanes]time.Time
		for range 200 {
			room := rapid.IntRange(0, 3).Draw(t, "room")
			for _, p := range worker.plan(room, now) {
				if p.wait {
					waits[p.lane] = true
					continue
				}
				asked[p.lane], waits[p.lane] = true, false
				for lane := range since {
					since[lane]++
				}
				since[p.lane] = 0
			}
			under := 0
			for lane := range asked {
				if asked[lane] {
					under++
				}
			}
			if under > 3 {
				t.Fatalf("%d asks are under way", under)
			}
			if lane := rapid.IntRange(0, 4*Lanes).Draw(t, "comes into"); lane < Lanes {
				calls[lane]++
			}
			for lane := range asked {
				switch {
				case waits[lane] && calls[lane] > 0: // whether there is room for it or not
					waits[lane], since[lane] = false, 0
					worker.called(lane)
				case asked[lane] && rapid.Bool().Draw(t, "answered"):
					asked[lane], since[lane] = false, 0
					if calls[lane] > 0 {
						calls[lane]--
						worker.called(lane)
					} else {
						empty[lane] = now
						worker.none(lane, now)
					}
				}
			}
			now = now.Add(step)
			for lane := range calls {
				if calls[lane] == 0 || now.Sub(empty[lane]) <= emptyRests+step {
					since[lane] = 0
				}
				if !asked[lane] && !waits[lane] && since[lane] > Lanes {
					t.Fatalf("lane %d with %d calls was passed over %d times", lane, calls[lane], since[lane])
				}
			}
		}
	})
}
