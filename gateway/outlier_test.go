package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"lightcone/functions"
	"lightcone/internal/problem"
)

var sights = map[string]sight{"answer": sawAnswer, "crash": sawCrash, "stop": sawStop, "silence": sawSilence, "loss": sawLoss}

// describe writes a member's state.
func (h *memberHealth) describe() string {
	if h.aside {
		return fmt.Sprintf("aside (%v, time %d) until %v, %d good", h.why, h.times, h.until.Sub(clock(0)), h.good)
	}
	return fmt.Sprintf("in use, set aside %d times, %d losses", h.times, h.row)
}

// TestOutlierTranscripts plays testdata/outlier.txt: calls to members, and who is set
// aside for them. Calls may be to several members, by several tenants, and many.
// Times aside are drawn from the middle.
func TestOutlierTranscripts(t *testing.T) {
	var names []string
	var peers []*memberHealth
	datadriven.RunTest(t, "testdata/outlier.txt", func(t *testing.T, d *datadriven.TestData) string {
		duration := func(key string) (value time.Duration) {
			if d.HasArg(key) {
				var text string
				d.ScanArgs(t, key, &text)
				var err error
				if value, err = time.ParseDuration(text); err != nil {
					d.Fatalf(t, "%s: %v", key, err)
				}
			}
			return value
		}
		words := func(key string) []string {
			arg, _ := d.Arg(key)
			return arg.Vals
		}
		now := clock(duration("at"))
		middle := func() uint64 { return 1 << 63 }
		seen := sighting{delay: duration("delay")}
		if saw := words("saw"); len(saw) > 0 {
			seen.what = sights[saw[0]]
		}
		var text []string
		switch d.Cmd {
		case "members":
			names, peers = nil, nil
			for _, arg := range d.CmdArgs {
				names, peers = append(names, arg.Key), append(peers, &memberHealth{})
			}
		case "leave":
			i := slices.Index(names, words("member")[0])
			names, peers = slices.Delete(names, i, i+1), slices.Delete(peers, i, i+1)
		case "calls":
			times := 1
			if d.HasArg("times") {
				d.ScanArgs(t, "times", &times)
			}
			for range times {
				for _, member := range words("member") {
					for _, tenant := range words("tenant") {
						seen.tenant = fingerprint(tenant)
						peers[slices.Index(names, member)].note(now, seen)
					}
				}
			}
		case "review":
			for _, why := range reviewPeers(now, peers, middle) {
				text = append(text, "newly: "+why.String())
			}
			for i, h := range peers {
				if h.aside || h.times > 0 || h.row > 0 {
					text = append(text, names[i]+": "+h.describe())
				}
			}
			if len(text) == 0 {
				return "all in use"
			}
		case "probe":
			h := peers[slices.Index(names, words("member")[0])]
			if !h.due(now) {
				return "not due"
			}
			h.probing = true
			again := h.probed(now, seen, d.HasArg("refused"), middle())
			return fmt.Sprintf("again %v: %s", again, h.describe())
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return strings.Join(text, "\n")
	})
}

func TestWhatACallShows(t *testing.T) {
	for _, test := range []struct {
		name       string
		kind       problem.Kind // "" = the function's answer
		exec, took time.Duration
		body       int
		what       sight
		delay      time.Duration
	}{
		{"an answer", "", 30 * time.Millisecond, 32 * time.Millisecond, 10, sawAnswer, 2 * time.Millisecond},
		{"a large one", "", 30 * time.Millisecond, time.Second, 2 << 20, sawAnswer, -1},
		{"a function's own no", problem.BadParameter, 0, time.Millisecond, 10, sawAnswer, time.Millisecond},
		{"a crash", problem.FunctionCrashed, time.Millisecond, time.Millisecond, 10, sawCrash, 0},
		{"memory", problem.OutOfMemory, time.Millisecond, time.Millisecond, 10, sawCrash, 0},
		{"a broken protocol", problem.FunctionFailed, time.Millisecond, time.Millisecond, 10, sawCrash, 0},
		{"a loss", problem.WorkerLost, 0, time.Second, 10, sawLoss, time.Second},
		{"stopped at its deadline", problem.DeadlineExceeded, time.Second, 1020 * time.Millisecond, 10, sawStop, 20 * time.Millisecond},
		{"nobody worked on it", problem.DeadlineExceeded, 0, time.Second, 10, sawSilence, time.Second},
		{"nobody, with a long way for the body", problem.DeadlineExceeded, 0, time.Second, 2 << 20, sawAnswer, -1},
		{"nobody in no time", problem.DeadlineExceeded, 0, 10 * time.Millisecond, 10, sawAnswer, 10 * time.Millisecond},
	} {
		var err error
		if test.kind != "" {
			err = problem.New(test.kind, "No.")
		}
		got := sightingOf(7, &functions.Call{Body: make([]byte, test.body)}, &functions.Answer{Exec: test.exec}, test.took, err)
		if want := (sighting{tenant: 7, what: test.what, delay: test.delay}); got != want {
			t.Errorf("%s: %+v, want %+v", test.name, got, want)
		}
	}
}

// drawSighting is any call of one of a few tenants.
func drawSighting(t *rapid.T) sighting {
	return sighting{
		tenant: rapid.Uint64Range(1, 6).Draw(t, "tenant"),
		what:   rapid.SampledFrom([]sight{sawAnswer, sawAnswer, sawCrash, sawStop, sawSilence, sawLoss}).Draw(t, "saw"),
		delay:  time.Duration(rapid.IntRange(-1, 20_000).Draw(t, "ms")) * time.Millisecond,
	}
}

// TestOutlierDetectionKeepsItsPromises plays calls, probes and departures at random.
func TestOutlierDetectionKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := clock(0)
		var peers []*memberHealth
		for range rapid.IntRange(0, 12).Draw(t, "members") {
			peers = append(peers, &memberHealth{})
		}
		aside := func() (n int) {
			for _, h := range peers {
				if h.aside {
					n++
				}
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			},
			"calls": func(t *rapid.T) {
				if len(peers) == 0 {
					t.Skip("nobody")
				}
				h, seen := rapid.SampledFrom(peers).Draw(t, "member"), drawSighting(t)
				for range rapid.IntRange(1, 30).Draw(t, "calls") {
					h.note(now, seen)
				}
			},
			"probe": func(t *rapid.T) {
				for _, h := range peers {
					if !h.due(now) {
						continue
					}
					seen, refused := drawSighting(t), rapid.Bool().Draw(t, "refused")
					h.probing = true
					if h.due(now) {
						t.Fatal("two probes at once")
					}
					times, good := h.times, h.good
					again := h.probed(now, seen, refused, rapid.Uint64().Draw(t, "random"))
					if again && (h.times != times+1 || !h.until.After(now) || !h.aside) || !h.aside && good != probesToReturn-1 {
						t.Fatalf("after a probe that %+v: %s", seen, h.describe())
					}
				}
			},
			"leave": func(t *rapid.T) {
				if len(peers) > 0 {
					peers = slices.Delete(peers, 0, 1)
				}
			},
			"review": func(t *rapid.T) {
				before := aside()
				newly := reviewPeers(now, peers, func() uint64 { return rapid.Uint64().Draw(t, "random") })
				if got := aside(); got > len(peers)/3 || got != min(before, len(peers)/3)+len(newly) {
					t.Fatalf("%d of %d are set aside, %d newly and %d before", got, len(peers), len(newly), before)
				}
				for _, h := range peers {
					if left := h.until.Sub(now); h.aside && (left > longestAside || h.changed.Equal(now) && left < firstAside/2) {
						t.Fatalf("set aside for %v", left)
					}
				}
			},
		})
	})
}

// TestOneTenantsCallsSetNoMemberAside: whatever one tenant's calls do to themselves,
// members stay in use.
func TestOneTenantsCallsSetNoMemberAside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := clock(0)
		peers := make([]*memberHealth, rapid.IntRange(3, 9).Draw(t, "members"))
		for i := range peers {
			peers[i] = &memberHealth{}
		}
		shard := rapid.IntRange(1, len(peers)).Draw(t, "shard")
		for range rapid.IntRange(1, 40).Draw(t, "seconds") {
			now = now.Add(time.Second)
			for i, h := range peers {
				for tenant := range uint64(4) {
					h.note(now, sighting{tenant: 10 + tenant, delay: time.Millisecond})
				}
				if i >= shard {
					continue
				}
				for range rapid.IntRange(0, 20).Draw(t, "ends") {
					h.note(now, sighting{tenant: 1, what: rapid.SampledFrom([]sight{sawCrash, sawStop}).Draw(t, "saw"), delay: time.Second})
				}
				// Others wait for the process after the one that has ended, or in vain.
				if h.ended.Equal(now) {
					for range rapid.IntRange(0, 10).Draw(t, "late") {
						h.note(now, sighting{tenant: 10, delay: time.Second})
						h.note(now, sighting{tenant: 11, delay: time.Second, what: sawSilence})
					}
				}
			}
			if newly := reviewPeers(now, peers, func() uint64 { return 0 }); len(newly) > 0 {
				t.Fatalf("set aside: %v", newly)
			}
		}
	})
}
