package quarantine

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/functions"
)

// TestDigestTellsInputsApart: what moves from one part of an input to the next makes another.
func TestDigestTellsInputsApart(t *testing.T) {
	seen := make(map[lightcone.Digest]string)
	for _, call := range []functions.Call{
		{Function: "resize", Query: []byte("a"), ContentType: []byte("b"), Body: []byte("c")},
		{Function: "resize", Query: []byte("ab"), Body: []byte("c")},
		{Function: "resize", Query: []byte("a"), ContentType: []byte("bc")},
		{Function: "resize", ContentType: []byte("ab"), Body: []byte("c")},
		{Function: "resize", Body: []byte("abc")},
		{Function: "resizea", ContentType: []byte("b"), Body: []byte("c")},
		{Function: "echo", Body: []byte("abc")},
		{Tenant: "a", Function: "echo", Body: []byte("abc")},
		{Tenant: "b", Function: "echo", Body: []byte("abc")},
		{Tenant: "b", Function: "echo", Accept: []byte("abc")},
		{Tenant: "b", Function: "echo", Accept: []byte("ab"), Body: []byte("c")},
		{},
	} {
		text := fmt.Sprintf("%+v", call)
		if other, found := seen[DigestOf(&call)]; found {
			t.Errorf("%s and %s have one digest", text, other)
		}
		seen[DigestOf(&call)] = text
	}
	one, other := functions.Call{Tenant: "a", Deadline: start, Traceparent: []byte("b")}, functions.Call{Tenant: "a"}
	if DigestOf(&one) != DigestOf(&other) {
		t.Error("until when a call may run is no part of the input")
	}
	// Other versions of Lightcone share the store, so the digest may not change.
	want := "722938dee75ac447dc3828c296ee783afcdc0a07b259f135ed045603038b3fc4"
	if got := DigestOf(callOf("input", 1)).String(); got != want {
		t.Errorf("the digest is %s, want %s", got, want)
	}
}

// TestAnInputIsItsTenants: one tenant's kills have neither another's call refused, nor
// its own when it asks for another encoding.
func TestAnInputIsItsTenants(t *testing.T) {
	store := openStore(t)
	one, two := newGateway(t, store, io.Discard, nil), newGateway(t, store, io.Discard, nil)
	for kill := range deadlyStrikes {
		one.Strike(callOf("common", kill))
	}
	for _, g := range []*gateway{one, two} {
		eventually(t, "the tenant's input is refused", func() bool { return g.refuses("common") })
		others, encoded := callOf("common", 3), callOf("common", 4)
		others.Tenant, encoded.Accept = "other", []byte("image/avif")
		if g.Quarantined(others) != nil {
			t.Error("another tenant's call is refused for this tenant's kills")
		}
		if g.Quarantined(encoded) != nil {
			t.Error("a call that asks for another encoding is refused")
		}
		if one.Strike(others); g.Quarantined(others) != nil {
			t.Error("strikes of two tenants are counted together")
		}
		one.mu.Lock()
		one.ledger.lift(DigestOf(others))
		one.mu.Unlock()
	}
}

// TestEachAttemptAtAQueuedCallMayKill: the attempts are of one call, and two of them are
// enough; one of them that is noted twice is not.
func TestEachAttemptAtAQueuedCallMayKill(t *testing.T) {
	store := openStore(t)
	one, two := newGateway(t, store, io.Discard, nil), newGateway(t, store, io.Discard, nil)
	attempt := func(number int) *functions.Call {
		call := callOf("deadly", 1)
		call.Attempt = number
		return call
	}
	one.Strike(attempt(1))
	one.Strike(attempt(1))
	eventually(t, "the first strike is in the store", func() bool { return hasDocument(t, store, strikesPath+digest("deadly").String()) })
	if one.refuses("deadly") {
		t.Fatal("one killed slot is enough")
	}
	two.Strike(attempt(2))
	for _, g := range []*gateway{one, two} {
		eventually(t, "every worker refuses the input", func() bool { return g.refuses("deadly") })
		if g.Ready() != nil {
			t.Error(g.Ready())
		}
	}
}

// drawEntry makes any good entry.
func drawEntry(t *rapid.T, input string) Entry {
	first := start.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "first")) * time.Millisecond)
	call := callOf(input, rapid.IntRange(0, 9).Draw(t, "call"))
	call.Attempt = rapid.IntRange(0, 2).Draw(t, "attempt")
	e := strikeOf(call, first, time.Hour)
	e.Tenant = lightcone.TenantID(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant"))
	return e
}

func TestMergeIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawEntry(t, "x"), drawEntry(t, "x"), drawEntry(t, "x")
		for what, pair := range map[string][2]Entry{
			"in any order": {merge(merge(a, b), c), merge(a, merge(c, b))},
			"again":        {merge(a, b), merge(merge(a, b), a)},
			"by itself":    {merge(a, a), a},
		} {
			if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
				t.Fatalf("%s: %s", what, diff)
			}
		}
	})
}

func TestEntriesComeBackFromTheirDocuments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := merge(drawEntry(t, "x"), drawEntry(t, "x"))
		got, err := decode(want.Digest, want.encode())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v: %s", err, diff)
		}
		h := head{}.with(change{Quarantined: &want}).with(change{Lifted: &want.Digest})
		again, err := decodeHead(h.encode())
		if diff := cmp.Diff(h, again); err != nil || diff != "" {
			t.Fatalf("%v: %s", err, diff)
		}
	})
}

func TestDocumentsThatCannotBeUsed(t *testing.T) {
	good := strikeOf(callOf("x", 1), start, time.Hour)
	for what, change := range map[string]func(*Entry){
		"call's id":   func(e *Entry) { e.Calls[0] += "-0" },
		"and attempt": func(e *Entry) { e.Calls[0] += "-" },
		"function":    func(e *Entry) { e.Function = "../x" },
		"tenant":      func(e *Entry) { e.Tenant = "" },
		"body_bytes":  func(e *Entry) { e.BodyBytes = -1 },
		"want 1 to 4": func(e *Entry) { e.Calls = nil },
		"1 to 4 ids":  func(e *Entry) { e.Calls = []string{"a", "b", "c", "d", "e"} },
		"no call's":   func(e *Entry) { e.Calls = []string{strings.Repeat("U", 26)} },
		"last_at":     func(e *Entry) { e.Last = e.First.Add(-1) },
		"expires_at":  func(e *Entry) { e.Expires = e.Last.Add(365 * 24 * time.Hour) },
		"the input":   func(e *Entry) { e.Digest[0]++ },
	} {
		bad := good
		bad.Calls = slices.Clone(good.Calls)
		change(&bad)
		if _, err := decode(good.Digest, bad.encode()); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for text, want := range map[string]string{
		`{"sequence":0,"changes":[{"lifted":"` + good.Digest.String() + `"}]}`:     "sequence number",
		`{"sequence":1,"changes":[{}]}`:                                            "change 0",
		`{"sequence":1,"changes":[{"quarantined":{}}]}`:                            "function",
		`{"sequence":99,"changes":[` + strings.Repeat(`{},`, mostChanges) + `{}]}`: "65 changes",
		`{"sequence":1,"changes":[{"lifted":"xyz"}]}`:                              "digest",
		`{"sequence":-1}`:               "sequence",
		strings.Repeat(" ", mostHead+1): "bytes",
		``:                              "JSON",
	} {
		if h, err := decodeHead([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || h.Changes != nil {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func TestConfigNamesTheBadField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for field, change := range map[string]func(*Config){
		"Expiry":          func(c *Config) { c.Expiry = longestExpiry + 1 },
		"SharesPerSecond": func(c *Config) { c.SharesPerSecond = -1 },
		"Burst":           func(c *Config) { c.Burst = 0 },
		"MostInputs":      func(c *Config) { c.MostInputs = 0 },
		"MostStrikes":     func(c *Config) { c.MostStrikes = 0 },
		"MostWaiting":     func(c *Config) { c.MostWaiting = 0 },
		"SweepEvery":      func(c *Config) { c.SweepEvery = 0 },
		"StoreTimeout":    func(c *Config) { c.StoreTimeout = 0 },
	} {
		config := DefaultConfig()
		change(&config)
		if _, err := New(config, nil, nil, nil); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("a bad %s: %v", field, err)
		}
	}
}

// FuzzDocuments: whatever is in the store, reading it and going on from it harms nobody.
func FuzzDocuments(f *testing.F) {
	e := merge(strikeOf(callOf("x", 1), start, time.Hour), strikeOf(callOf("x", 2), start, time.Hour))
	f.Add(e.encode())
	f.Add(head{}.with(change{Quarantined: &e}).with(change{Lifted: &e.Digest}).encode())
	f.Add([]byte(`{"sequence":18446744073709551615,"changes":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := newLedger(DefaultConfig(), start)
		s := stored{strikeVersion: 1, heldVersion: 2, headVersion: 3}
		if found, err := decode(e.Digest, text); err == nil {
			s.strike, s.quarantined = &found, &found
			l.replace(start, []Entry{found})
			if again, err := decode(e.Digest, merge(found, e).encode()); err != nil {
				t.Errorf("%s merges to %+v: %v", text, again, err)
			}
		}
		h, err := decodeHead(text)
		if err == nil {
			s.head = h
			changes, _ := h.since(0)
			l.apply(start, changes)
		}
		for _, c := range share(start, e, s) {
			if c.Path == headPath {
				if _, err := decodeHead(c.Value); err != nil && h.Sequence+1 > uint64(len(h.Changes)) {
					t.Errorf("after %s, the head is %s: %v", text, c.Value, err)
				}
			}
		}
		if _, err := json.Marshal(lift(e.Digest, s)); err != nil {
			t.Error(err)
		}
	})
}
