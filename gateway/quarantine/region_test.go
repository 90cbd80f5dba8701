package quarantine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/internal/document"
)

// region is a few gateways' ledgers and the documents between them, without the
// clocks and goroutines around them.
type region struct {
	rules     Config
	documents map[string]document.Document
	version   uint64
	ledgers   map[string]*ledger
	sequences map[string]uint64 // of the head that each ledger has seen
	calls     int
}

func newRegion(rules Config) *region {
	return &region{rules: rules, documents: make(map[string]document.Document), ledgers: make(map[string]*ledger), sequences: make(map[string]uint64)}
}

func (r *region) ledger(name string) *ledger {
	if r.ledgers[name] == nil {
		r.ledgers[name] = newLedger(r.rules, start)
	}
	return r.ledgers[name]
}

func (r *region) strike(name, input string, now time.Time) (verdict, bool) {
	r.calls++
	return r.ledger(name).strike(now, strikeOf(callOf(input, r.calls), now, r.rules.Expiry))
}

func (r *region) look(d lightcone.Digest) (s stored) {
	read := func(prefix string) (*Entry, uint64) {
		found, here := r.documents[prefix+d.String()]
		e, err := decode(d, found.Value)
		if !here || err != nil {
			return nil, found.Version
		}
		return &e, found.Version
	}
	s.strike, s.strikeVersion = read(strikesPath)
	s.quarantined, s.heldVersion = read(quarantinedPath)
	if h, found := r.documents[headPath]; found {
		s.headVersion = h.Version
		s.head, _ = decodeHead(h.Value) // an unreadable one is empty
	}
	return s
}

func (r *region) commit(changes []document.Change) {
	for _, c := range changes {
		if r.documents[c.Path].Version != c.Version {
			panic("a commit on top of what was not read: " + c.Path)
		}
	}
	r.version++
	for _, c := range changes {
		if c.Delete {
			delete(r.documents, c.Path)
		} else {
			r.documents[c.Path] = document.Document{Path: c.Path, Value: c.Value, Version: r.version}
		}
	}
}

// share has a gateway share one input. When lost, it does not hear that it has.
func (r *region) share(name string, now time.Time, lost bool) []document.Change {
	l := r.ledger(name)
	mine, more := l.next()
	if !more {
		return nil
	}
	changes := share(now, mine, r.look(mine.Digest))
	r.commit(changes)
	if lost {
		l.postpone(mine.Digest)
	} else {
		l.shared(mine)
	}
	return changes
}

// learn has a gateway take over what is new, and says whether it read everything.
func (r *region) learn(name string, now time.Time) (all bool) {
	h := r.look(lightcone.Digest{}).head
	changes, whole := h.since(r.sequences[name])
	if !whole {
		var entries []Entry
		for path, d := range r.documents {
			if text, ours := strings.CutPrefix(path, quarantinedPath); ours {
				var digest lightcone.Digest
				_ = digest.UnmarshalText([]byte(text))
				if e, err := decode(digest, d.Value); err == nil {
					entries = append(entries, e)
				}
			}
		}
		r.ledger(name).replace(now, entries)
	}
	r.ledger(name).apply(now, changes)
	r.sequences[name] = h.Sequence
	return !whole
}

func (r *region) refuses(name, input string, now time.Time) bool {
	h, found := r.ledger(name).held[digest(input)]
	return found && !h.expired(now)
}

// TestRegionTranscripts plays strikes, shares and lifts on a few gateways.
func TestRegionTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/region", func(t *testing.T, path string) {
		rules := DefaultConfig()
		rules.Burst, rules.MostInputs, rules.MostStrikes, rules.MostWaiting = 8, 3, 4, 4
		r := newRegion(rules)
		inputs := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
		named := func(text string) string {
			for _, input := range inputs {
				text = strings.ReplaceAll(text, digest(input).String(), input)
			}
			return strings.ReplaceAll(text, "quarantine/", "")
		}
		described := func(changes []document.Change) string {
			var lines []string
			for _, c := range changes {
				what := "put"
				if c.Delete {
					what = "delete"
				}
				lines = append(lines, what+" "+named(c.Path))
			}
			return strings.Join(lines, "\n")
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var gateway, input, at string
			d.MaybeScanArgs(t, "gateway", &gateway)
			d.MaybeScanArgs(t, "input", &input)
			d.MaybeScanArgs(t, "at", &at)
			after, _ := time.ParseDuration(at)
			now := start.Add(after)
			switch d.Cmd {
			case "strike":
				said, shared := r.strike(gateway, input, now)
				if !shared {
					return fmt.Sprintf("%s, for this gateway only", said)
				}
				return string(said)
			case "share":
				return described(r.share(gateway, now, d.HasArg("lost")))
			case "learn":
				if r.learn(gateway, now) {
					return "all"
				}
				return "changes"
			case "lift":
				changes := lift(digest(input), r.look(digest(input)))
				r.commit(changes)
				return described(changes)
			case "spoil":
				path := strikesPath + digest(input).String()
				if input == "head" {
					path = headPath
				}
				r.commit([]document.Change{{Path: path, Value: []byte("{"), Version: r.documents[path].Version}})
				return ""
			case "refused":
				var lines []string
				for _, name := range slices.Sorted(maps.Keys(r.ledgers)) {
					line := name + ":"
					for _, input := range inputs {
						if r.refuses(name, input, now) {
							line += " " + input
						}
					}
					lines = append(lines, line)
				}
				return strings.Join(lines, "\n")
			case "documents":
				return named(strings.Join(slices.Sorted(maps.Keys(r.documents)), "\n"))
			}
			t.Fatalf("no command %q", d.Cmd)
			return ""
		})
	})
}

// TestOneKillIsNeverTwo strikes at random, loses answers of the store and has gateways
// share and learn in any order: an input is refused by all in the end if it has
// killed two, and never by anybody if it has killed one.
func TestOneKillIsNeverTwo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := DefaultConfig()
		rules.Burst, rules.MostWaiting = 1000, 1000
		r := newRegion(rules)
		names, inputs := []string{"one", "two", "three"}, []string{"a", "b", "c"}
		kills, now := make(map[string]int), start
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			now = now.Add(time.Second)
			name := rapid.SampledFrom(names).Draw(t, "gateway")
			switch rapid.SampledFrom([]string{"strike", "share", "lose", "learn"}).Draw(t, "step") {
			case "strike":
				input := rapid.SampledFrom(inputs).Draw(t, "input")
				kills[input]++
				r.strike(name, input, now)
			case "share":
				r.share(name, now, false)
			case "lose":
				r.share(name, now, true)
			case "learn":
				r.learn(name, now)
			}
			for _, input := range inputs {
				if kills[input] < deadlyStrikes && r.refuses(name, input, now) {
					t.Fatalf("%s refuses %q after %d kills", name, input, kills[input])
				}
			}
		}
		for _, name := range names {
			for more := true; more; _, more = r.ledger(name).next() {
				r.share(name, now, false)
			}
		}
		for _, name := range names {
			r.learn(name, now)
			for _, input := range inputs {
				if got, want := r.refuses(name, input, now), kills[input] >= deadlyStrikes; got != want {
					t.Fatalf("after %d kills by %q: refused by %s: %v", kills[input], input, name, got)
				}
			}
		}
		for _, input := range inputs {
			r.commit(lift(digest(input), r.look(digest(input))))
		}
		for _, name := range names {
			r.learn(name, now)
			for _, input := range inputs {
				if r.refuses(name, input, now) {
					t.Fatalf("%s refuses %q after it was lifted", name, input)
				}
			}
		}
		if len(r.documents) != 1 {
			t.Fatalf("after all was lifted, there are %v", slices.Sorted(maps.Keys(r.documents)))
		}
	})
}

// TestLedgerStaysBounded: whatever comes, memory, queue and writes keep to the rules.
func TestLedgerStaysBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := DefaultConfig()
		rules.MostInputs, rules.MostStrikes, rules.MostWaiting, rules.Burst, rules.SharesPerSecond = 3, 4, 5, 6, 0.5
		r := newRegion(rules)
		l := r.ledger("one")
		now, shared := start, 0.0
		for i := range rapid.IntRange(0, 200).Draw(t, "strikes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms")) * time.Millisecond)
			before := len(l.waits)
			r.strike("one", fmt.Sprint(rapid.IntRange(0, i).Draw(t, "input")), now)
			shared += float64(len(l.waits) - before)
			if rapid.Bool().Draw(t, "share") {
				r.share("one", now, false)
			}
			if len(l.held) > 3 || l.oldest.Len() > 4 || len(l.struck) != l.oldest.Len() || len(l.waits) > 5 || len(l.queued) != len(l.waits) {
				t.Fatalf("%d held, %d (%d) struck, %d (%d) waiting", len(l.held), l.oldest.Len(), len(l.struck), len(l.waits), len(l.queued))
			}
		}
		if most := 6 + 0.5*now.Sub(start).Seconds(); shared > most {
			t.Fatalf("%v strikes were to be shared; the budget is %v", shared, most)
		}
	})
}
