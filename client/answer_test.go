package client

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lightcone/internal/problem"
)

func TestParseServerTiming(t *testing.T) {
	ms := time.Millisecond
	for _, test := range []struct {
		text string
		want map[string]time.Duration
	}{
		{"queue;dur=0.5, exec;dur=8, cpu;dur=7.25", map[string]time.Duration{"queue": ms / 2, "exec": 8 * ms, "cpu": 7250 * time.Microsecond}},
		{`cpu;desc="CPU time";dur="7"`, map[string]time.Duration{"cpu": 7 * ms}},
		{"cpu", map[string]time.Duration{}},
		{"cpu;dur=fast, exec;dur=-1, queue;dur=NaN, x;dur=1e300", map[string]time.Duration{}},
		{"", map[string]time.Duration{}},
	} {
		if diff := cmp.Diff(test.want, parseServerTiming(test.text)); diff != "" {
			t.Errorf("%q:\n%s", test.text, diff)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		text string
		want time.Duration
	}{
		{"2", 2 * time.Second},
		{" 120 ", 2 * time.Minute},
		{"Sun, 01 Mar 2026 12:00:30 GMT", 30 * time.Second},
		{"Sun, 01 Mar 2026 11:00:00 GMT", 0},
		{"-5", 0},
		{"99999999999999999999", 0},
		{"soon", 0},
		{"", 0},
	} {
		if got := parseRetryAfter(test.text, now); got != test.want {
			t.Errorf("%q reads as %v, want %v", test.text, got, test.want)
		}
	}
}

func TestParseProblem(t *testing.T) {
	for _, test := range []struct {
		name, contentType, body string
		kind                    problem.Kind
		detail, quota           string
	}{
		{"ours", "application/problem+json", `{"type":"urn:lightcone:problem:corrupt-input","title":"Corrupt","status":422,"detail":"The JPEG ends early."}`, problem.CorruptInput, "The JPEG ends early.", ""},
		{"a quota", "application/problem+json", `{"type":"urn:lightcone:problem:limit-reached","detail":"No.","quota":"concurrent_calls"}`, problem.LimitReached, "No.", "concurrent_calls"},
		{"with a charset", "application/problem+json; charset=utf-8", `{"type":"urn:lightcone:problem:overloaded","detail":"Busy."}`, problem.Overloaded, "Busy.", ""},
		{"another's", "application/problem+json", `{"type":"https://example.com/odd","title":"Odd"}`, "", "Odd", ""},
		{"a lie", "application/problem+json", `<html>`, "", "", ""},
		{"plain", "text/plain", "no such page\nsecond line", "", "no such page", ""},
		{"a proxy's page", "text/html", "<html>503</html>", "", "", ""},
		{"nothing", "", "", "", "", ""},
		{"escape sequences", "text/plain", "\x1b[2Jgone", "", " [2Jgone", ""},
	} {
		kind, detail, quota := parseProblem(test.contentType, []byte(test.body))
		if kind != test.kind || detail != test.detail || quota != test.quota {
			t.Errorf("%s: %q, %q, %q, want %q, %q, %q", test.name, kind, detail, quota, test.kind, test.detail, test.quota)
		}
	}
}

// FuzzServerWords feeds the parsers what a server may say. Nothing of it may
// steer a terminal or give a time that is not one.
func FuzzServerWords(f *testing.F) {
	f.Add("application/problem+json", []byte(`{"type":"urn:lightcone:problem:x","detail":"\u001b[31m"}`), "2", "cpu;dur=1")
	f.Add("text/plain", []byte("\x9b31m\xff"), "Sun, 01 Mar 2026 12:00:30 GMT", `a;dur="2",b;dur=1e308`)
	f.Add("text/plain; charset=", []byte(strings.Repeat("é", 600)), "-1", ";dur=0")
	f.Fuzz(func(t *testing.T, contentType string, body []byte, after, timing string) {
		kind, detail, quota := parseProblem(contentType, body)
		for _, text := range []string{string(kind), detail, quota} {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || utf8.RuneCountInString(text) > 501 {
				t.Errorf("%q would reach the terminal", text)
			}
		}
		if wait := parseRetryAfter(after, time.Unix(1_800_000_000, 0)); wait < 0 {
			t.Errorf("Retry-After %q reads as %v", after, wait)
		}
		for name, d := range parseServerTiming(timing) {
			if d < 0 || d > 24*time.Hour {
				t.Errorf("Server-Timing %q: %s is %v", timing, name, d)
			}
		}
	})
}
