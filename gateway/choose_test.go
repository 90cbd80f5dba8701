package gateway

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestChooseTranscripts plays testdata/choose.txt. A member is written as its name,
// its busy calls and its slots: "a=3/4", with "own=2" of them this gateway's, and
// "unready" or "tried" where it is so. A choice is made for every pair of random
// picks, and shown as how often each member is chosen. "outside" is of the shard.
func TestChooseTranscripts(t *testing.T) {
	var names []string
	var candidates []candidate
	var l load
	state := func() string { return fmt.Sprintf("%d of ours, %d of others, on %d slots", l.own, l.others, l.slots) }
	datadriven.RunTest(t, "testdata/choose.txt", func(t *testing.T, d *datadriven.TestData) string {
		number := func(key string) (n int) {
			if d.HasArg(key) {
				d.ScanArgs(t, key, &n)
			}
			return n
		}
		now := clock(time.Duration(number("ms")) * time.Millisecond)
		switch d.Cmd {
		case "members":
			names, candidates = nil, nil
			for line := range strings.Lines(d.Input) {
				fields := strings.Fields(line)
				c := candidate{ready: !strings.Contains(line, "unready"), barred: strings.Contains(line, "tried"), outside: strings.Contains(line, "outside")}
				name, load, _ := strings.Cut(fields[0], "=")
				if _, err := fmt.Sscanf(load, "%d/%d", &c.busy, &c.slots); err != nil {
					d.Fatalf(t, "%s: %v", line, err)
				}
				for _, field := range fields[1:] {
					if own, found := strings.CutPrefix(field, "own="); found {
						_, _ = fmt.Sscan(own, &c.own)
					}
				}
				names, candidates = append(names, name), append(candidates, c)
			}
			return ""
		case "choose":
			chosen := map[string]int{}
			within := anywhere
			if d.HasArg("hopeful") {
				within = hopeful
			} else if d.HasArg("shard") {
				within = ownShard
			}
			picks := uint64(len(candidates) * max(len(candidates)-1, 1))
			for first := range picks {
				for second := range picks {
					if i := choose(candidates, within, first|second<<32); i < 0 {
						chosen["none"]++
					} else {
						chosen[names[i]]++
					}
				}
			}
			var text []string
			for _, name := range append(names, "none") {
				if chosen[name] > 0 {
					text = append(text, fmt.Sprintf("%s %.0f%%", name, 100*float64(chosen[name])/float64(picks*picks)))
				}
			}
			return strings.Join(text, ", ")
		case "load":
			l = load{own: number("own")}
			return ""
		case "report":
			l.report(now, number("slots"), number("busy"))
		case "send":
			l.own++
		case "refuse":
			l.refuse(now)
		case "finish":
			l.finish()
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return state()
	})
}

func drawCandidate(t *rapid.T) candidate {
	own := rapid.IntRange(0, 5).Draw(t, "own")
	return candidate{
		ready:   rapid.Bool().Draw(t, "ready"),
		barred:  rapid.Bool().Draw(t, "barred"),
		outside: rapid.Bool().Draw(t, "outside"),
		slots:   rapid.IntRange(0, 5).Draw(t, "slots"),
		own:     own,
		busy:    own + rapid.IntRange(0, 5).Draw(t, "others"),
	}
}

// TestChooseKeepsItsPromises draws members at random: what is chosen may be
// chosen, something is chosen if anything may be, and never the fullest of three.
func TestChooseKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		candidates := rapid.SliceOfN(rapid.Custom(drawCandidate), 0, 8).Draw(t, "candidates")
		within := reach(rapid.IntRange(int(ownShard), int(hopeful)).Draw(t, "reach"))
		anyReady := false
		for _, c := range candidates {
			anyReady = anyReady || c.ready
		}
		may := func(c candidate) bool {
			return c.ready == anyReady && !c.barred && c.own < c.slots && (within == hopeful || c.busy < c.slots) && (within != ownShard || !c.outside)
		}
		i := choose(candidates, within, rapid.Uint64().Draw(t, "random"))
		if i >= 0 && !may(candidates[i]) {
			t.Fatalf("chose %+v", candidates[i])
		}
		choices, fuller := 0, 0
		for j, c := range candidates {
			if !may(c) {
				continue
			}
			choices++
			if i >= 0 && j != i && c.busy*candidates[i].slots >= candidates[i].busy*c.slots {
				fuller++
			}
		}
		if choices > 0 && i < 0 {
			t.Fatalf("chose none of %d", choices)
		}
		if choices > 1 && fuller == 0 {
			t.Fatalf("chose %+v, the fullest of %d", candidates[i], choices)
		}
	})
}

// TestChooseSpreadsTheLoad sends calls to members of which none ends: with two
// choices, the fullest stays close to the mean (n log log n; one choice: sqrt n).
func TestChooseSpreadsTheLoad(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 3, 10, 100} {
		candidates := make([]candidate, n)
		for i := range candidates {
			candidates[i] = candidate{ready: true, slots: 1 << 20}
		}
		const mean = 400
		for range n * mean {
			i := choose(candidates, anywhere, random.Uint64())
			candidates[i].own++
			candidates[i].busy++
		}
		for i, c := range candidates {
			if math.Abs(float64(c.busy-mean)) > 12 {
				t.Errorf("of %d members, number %d got %d calls; the mean is %d", n, i, c.busy, mean)
			}
		}
	}
}

// TestLoadKeepsItsPromises plays calls, refusals and reports at random.
func TestLoadKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now, sent := load{}, clock(0), 0
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "ms")) * time.Millisecond)
			},
			"report": func(t *rapid.T) {
				slots := rapid.IntRange(0, 8).Draw(t, "slots")
				l.report(now, slots, rapid.IntRange(0, 8).Draw(t, "busy"))
			},
			"send": func(*rapid.T) { l.own++; sent++ },
			"refuse": func(t *rapid.T) {
				if sent == 0 {
					t.Skip("nothing to refuse")
				}
				sent--
				if l.refuse(now); l.busy() < l.slots {
					t.Fatalf("%+v has room right after a refusal", l)
				}
			},
			"finish": func(t *rapid.T) {
				if sent == 0 {
					t.Skip("nothing to finish")
				}
				within := l.own <= l.slots // else the slots have become fewer meanwhile
				sent--
				if l.finish(); within && l.busy() >= l.slots {
					t.Fatalf("%+v has no room right after a call has ended", l)
				}
			},
			"": func(t *rapid.T) {
				if l.own != sent || l.others < 0 {
					t.Fatalf("%+v with %d calls sent", l, sent)
				}
			},
		})
	})
}
