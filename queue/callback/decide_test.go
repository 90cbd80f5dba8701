package callback

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestDecisions replays testdata/decide.txt: each line of an input is a reply, and each
// line of the output what follows. The directives' arguments hold for all their lines:
//
//	decide attempt= [age=] [random=]
//	  STATUS [retry-after=] | failure WORDS | refused WORDS
//	retry-after status=
//	  the header's text; it is noon
func TestDecisions(t *testing.T) {
	noon := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	datadriven.RunTest(t, "testdata/decide.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out string
		for _, line := range strings.Split(d.Input, "\n") {
			switch d.Cmd {
			case "decide":
				attempt, age, random := 1, "0s", 0.5
				d.MaybeScanArgs(t, "attempt", &attempt)
				d.MaybeScanArgs(t, "age", &age)
				d.MaybeScanArgs(t, "random", &random)
				verdict := Decide(replyOf(t, line), attempt, durationOf(t, age), random)
				out += fmt.Sprintf("%s: %s", line, verdict.Outcome)
				if verdict.Outcome == Again {
					out += fmt.Sprintf(" after %v", verdict.After)
				}
				if verdict.Reason != "" {
					out += ": " + verdict.Reason
				}
				out += "\n"
			case "retry-after":
				var status int
				d.ScanArgs(t, "status", &status)
				out += fmt.Sprintf("%s: %v\n", line, retryAfter(status, line, noon))
			default:
				t.Fatalf("no such directive: %s", d.Cmd)
			}
		}
		return out
	})
}

func replyOf(t *testing.T, line string) Reply {
	first, rest, _ := strings.Cut(line, " ")
	switch first {
	case "failure":
		return Reply{Failure: rest}
	case "refused":
		return Reply{Failure: rest, Refused: true}
	}
	status, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	reply := Reply{Status: status}
	if asked, found := strings.CutPrefix(rest, "retry-after="); found {
		reply.RetryAfter = durationOf(t, asked)
	}
	return reply
}

func durationOf(t *testing.T, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDecisionProperties: retries end in number and in time, and never come at once.
func TestDecisionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		age := time.Duration(0)
		for attempt := 1; ; attempt++ {
			reply := Reply{
				Status:     rapid.SampledFrom([]int{0, 301, 400, 404, 408, 429, 500, 503}).Draw(t, "status"),
				RetryAfter: time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "retry after")),
				Failure:    "x",
			}
			verdict := Decide(reply, attempt, age, rapid.Float64Range(0, 0.999).Draw(t, "random"))
			if verdict.Outcome == GivenUp {
				return
			}
			if verdict.Outcome != Again || verdict.After < shortestWait || verdict.After > longestWait || verdict.Reason == "" || attempt >= MostAttempts {
				t.Fatalf("attempt %d: %+v", attempt, verdict)
			}
			if age += verdict.After; age > MostAge {
				t.Fatalf("attempt %d is %v after the call's end", attempt+1, age)
			}
		}
	})
}
