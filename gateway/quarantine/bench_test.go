package quarantine

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"lightcone/functions"
)

// BenchmarkQuarantined is what the book adds to a call: with nothing in quarantine,
// with 1000 inputs of other lengths, with 1000 of this length and other queries, and
// of the fingerprint itself, when a body of 256 KB has to be read.
func BenchmarkQuarantined(b *testing.B) {
	body := strings.Repeat("x", 256<<10)
	for _, test := range []struct {
		name          string
		inputs        int
		length, query int // whether those in quarantine have the call's
	}{
		{"empty", 0, 0, 0}, {"other lengths", 1000, 0, 0}, {"other queries", 1000, 1, 0}, {"other bodies", 1000, 1, 1},
	} {
		b.Run(test.name, func(b *testing.B) {
			book, call := fill(b, body, test.inputs, test.length == 1, test.query == 1)
			b.ReportAllocs()
			for b.Loop() {
				if book.Quarantined(call) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// TestClearingACallAllocatesNothing unless its body has to be read.
func TestClearingACallAllocatesNothing(t *testing.T) {
	for name, sameLength := range map[string]bool{"other lengths": false, "other queries": true} {
		book, call := fill(t, "x", 100, sameLength, false)
		if n := testing.AllocsPerRun(100, func() { book.Quarantined(call) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// fill makes a book of inputs, and a call that is not among them.
func fill(t testing.TB, body string, inputs int, sameLength, sameQuery bool) (*gateway, *functions.Call) {
	t.Helper()
	g := newGateway(t, openStore(t), io.Discard, nil)
	var entries []Entry
	for i := range inputs {
		call := callOf(body, i)
		call.Body = append(call.Body, fmt.Sprint(i)...)
		if sameLength {
			call.Body = call.Body[len(call.Body)-len(body):]
		}
		if !sameQuery {
			call.Query = fmt.Append(call.Query, "&height=", i)
		}
		e := strikeOf(call, start, longestExpiry)
		e.Expires = start.AddDate(100, 0, 0)
		entries = append(entries, e)
	}
	g.change(func(l *ledger) { l.replace(start, entries) })
	return g, callOf(body, 0)
}
