package gateway

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"lightcone/internal/problem"
)

func TestPreferencesOf(t *testing.T) {
	async, asyncFor := preferences{respondAsync: true}, func(seconds int) preferences {
		return preferences{respondAsync: true, waits: true, wait: time.Duration(seconds) * time.Second}
	}
	for _, test := range []struct {
		lines string // separated by |
		want  preferences
	}{
		{"", preferences{}},
		{"|", preferences{}},
		{"return=minimal", preferences{}},
		{"respond-async", async},
		{"Respond-ASYNC", async},
		{`respond-async=""`, async},
		{"respond-async, wait=10", asyncFor(10)},
		{"wait=10,respond-async", asyncFor(10)},
		{"respond-async|wait=10", asyncFor(10)},
		{"Wait = 10 ,\trespond-async", asyncFor(10)},
		{`respond-async, wait="10"`, asyncFor(10)},
		{`respond-async, wait="\10"`, asyncFor(10)},
		{"respond-async; foo; bar=1;;, wait=10; x", asyncFor(10)},
		{`handling=lenient, respond-async; note="a, wait=-1", wait=7, odata.include-annotations="*"`, preferences{respondAsync: true, waits: true, wait: 7 * time.Second, handles: true}},
		{"Handling=Strict, handling=lenient", preferences{handles: true, strict: true}},
		{"handling=lenient, handling=strict", preferences{handles: true}},
		{",, respond-async ,,", async},
		{"respond-async, wait=0", asyncFor(0)},
		{"respond-async, wait=007", asyncFor(7)},
		{"respond-async, wait=60", asyncFor(60)},
		{"respond-async, wait=61", asyncFor(60)},
		{"respond-async, wait=" + strings.Repeat("9", 4000), asyncFor(60)},
		{"respond-async, wait=5, wait=abc", asyncFor(5)}, // only the first counts
		{"wait=5", preferences{waits: true, wait: 5 * time.Second}},
		{"respond-asynchronously, awaits=3", preferences{}},
	} {
		got, err := preferencesOf(bytes.Split([]byte(test.lines), []byte("|")))
		if err != nil || got != test.want {
			t.Errorf("%.80q: got %+v, %v, want %+v", test.lines, got, err, test.want)
		}
	}
	for _, test := range []struct{ line, names string }{
		{"respond-async, wait=-1", `wait is "-1"`},
		{"wait=abc", `wait is "abc"`},
		{"respond-async, wait", `wait is ""`},
		{`wait=""`, `wait is ""`},
		{"wait=1.5", `wait is "1.5"`},
		{"wait=+1", `wait is "+1"`},
		{`wait=" 1"`, `wait is " 1"`},
		{"wait=0x10", `wait is "0x10"`},
		{"wait=" + strings.Repeat("a", 4000), `wait is "aaaa`},
		{"respond-async=true", `respond-async has the value "true"`},
		{"respond-async wait=1", "header Prefer"},
		{"wait=", "header Prefer"},
		{"=1", "header Prefer"},
		{`wait="1`, "header Prefer"},
		{`wait="1\`, "header Prefer"},
		{`wait="1"2`, "header Prefer"},
		{"respond-async; =1", "header Prefer"},
		{"respond-async; a b", "header Prefer"},
		{"@foo", "header Prefer"},
		{"wait=\xff", "header Prefer"},
	} {
		got, err := preferencesOf([][]byte{[]byte(test.line)})
		if err == nil || problem.Of(err).Kind != problem.BadParameter || !strings.Contains(problem.Of(err).Detail, test.names) || got != (preferences{}) {
			t.Errorf("%.80q: got %+v, %v, want an error with %q", test.line, got, err, test.names)
		} else if len(problem.Of(err).Detail) > 500 {
			t.Errorf("%.80q: an error of %d bytes", test.line, len(problem.Of(err).Detail))
		}
	}
}

func FuzzPreferencesOf(f *testing.F) {
	for _, seed := range []string{"respond-async, wait=10", `a="b\"c";d, WAIT = "5"`, "wait=-1", ",,;", `x="`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		got, err := preferencesOf([][]byte{line})
		if !bytes.Equal(line, before) {
			t.Fatalf("%q was changed to %q", before, line)
		}
		if err != nil && got != (preferences{}) || got.wait < 0 || got.wait > mostWait || !got.waits && got.wait != 0 {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
		lower := bytes.ToLower(line)
		if got.respondAsync && !bytes.Contains(lower, []byte("respond-async")) || got.waits && !bytes.Contains(lower, []byte("wait")) {
			t.Errorf("%q: %+v out of nothing", line, got)
		}
		if err == nil {
			// A list's elements may as well come in lines of their own, and others between them are ignored.
			again, err := preferencesOf([][]byte{[]byte("return=minimal"), line, []byte(`x="respond-async, wait=3"`)})
			if err != nil || again != got {
				t.Errorf("%q: %+v, and among others %+v, %v", line, got, again, err)
			}
		}
	})
}
