package edge

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

var (
	actionNames  = map[action]string{load: "load", serve: "serve", serveAndRefresh: "serve and refresh"}
	replyNames   = map[string]reply{"not-asked": notAsked, "failed": failed, "absent": absent, "deleted": deleted, "found": found}
	verdictNames = map[verdict]string{
		askOrigin: "ask the origin", useRedis: "use Redis's", useOrigin: "use the origin's", gone: "there is none",
		lagging: "ask again: it lags", cannotTell: "cannot tell",
	}
)

const (
	testFresh = 30 * time.Second
	testStale = 24 * time.Hour
)

// TestDecisions runs the transcripts. "held" says how a document in memory stands
// (age, and jitter=N, doubted, vouched, unheard=age), one a line. "stores" says what Redis and
// the origin answer (reply, version, age) and what version must be reached.
func TestDecisions(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b strings.Builder
			for line := range strings.Lines(d.Input) {
				line = strings.TrimSpace(line)
				if d.Cmd == "held" {
					fmt.Fprintf(&b, "%-32s %s\n", line, actionNames[decide(parseStanding(t, line), testFresh, testStale)])
					continue
				}
				fmt.Fprintf(&b, "%-72s %s\n", line, verdictNames[settleLine(t, line)])
			}
			return b.String()
		})
	})
}

func parseStanding(t *testing.T, line string) (s standing) {
	for i, word := range strings.Fields(line) {
		jitter, isJitter := strings.CutPrefix(word, "jitter=")
		switch {
		case i == 0:
			s.age = duration(t, word)
			s.unheard = s.age
		case isJitter:
			s.jitter = uint8(number(t, jitter))
		case strings.HasPrefix(word, "unheard="):
			s.unheard = duration(t, strings.TrimPrefix(word, "unheard="))
		case word == "doubted":
			s.doubted = true
		case word == "vouched":
			s.vouched = true
		default:
			t.Fatalf("%q", line)
		}
	}
	return s
}

// settleLine reads, for example: redis found 5 40s; origin found 7; heard 6; held 5
func settleLine(t *testing.T, line string) verdict {
	var redis, origin answer
	var heard, held uint64
	for part := range strings.SplitSeq(line, ";") {
		words := strings.Fields(part)
		switch words[0] {
		case "redis":
			redis = parseAnswer(t, words[1:])
		case "origin":
			origin = parseAnswer(t, words[1:])
		case "heard":
			heard = number(t, words[1])
		case "held":
			held = number(t, words[1])
		default:
			t.Fatalf("%q", line)
		}
	}
	return settle(redis, origin, heard, held, testFresh, testStale)
}

func parseAnswer(t *testing.T, words []string) (a answer) {
	known := false
	if a.reply, known = replyNames[words[0]]; !known {
		t.Fatalf("%q", words)
	}
	if len(words) > 1 {
		a.version = number(t, words[1])
	}
	if len(words) > 2 {
		a.age = duration(t, words[2])
	}
	return a
}

func number(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func drawStanding(t *rapid.T) standing {
	age := rapid.Int64Range(0, int64(2*testStale)).Draw(t, "age")
	return standing{
		age:     time.Duration(age),
		unheard: time.Duration(rapid.Int64Range(0, age).Draw(t, "unheard")),
		jitter:  rapid.Byte().Draw(t, "jitter"),
		doubted: rapid.Bool().Draw(t, "doubted"),
		vouched: rapid.Bool().Draw(t, "vouched"),
	}
}

func TestWhatIsHeldIsServedWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStanding(t)
		got := decide(s, testFresh, testStale)
		if (got == load) != (s.unheard >= testStale) {
			t.Fatalf("%+v: %s", s, actionNames[got])
		}
		if got == serve && (s.doubted || s.age >= recheckFor || !s.vouched && s.age >= testFresh) {
			t.Fatalf("%+v is served and not refreshed", s)
		}
		if got == serveAndRefresh && !s.doubted && s.age < testFresh*4/5 {
			t.Fatalf("%+v is refreshed early", s)
		}
	})
}

func TestNothingOlderIsBelieved(t *testing.T) {
	draw := func(t *rapid.T, name string) answer {
		return answer{
			reply:   reply(rapid.IntRange(int(notAsked), int(found)).Draw(t, name)),
			version: rapid.Uint64Range(1, 4).Draw(t, name+" version"),
			age:     time.Duration(rapid.Int64Range(0, int64(2*testStale)).Draw(t, name+" age")),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		redis, origin := draw(t, "redis"), draw(t, "origin")
		heard, held := rapid.Uint64Range(0, 4).Draw(t, "heard"), rapid.Uint64Range(0, 4).Draw(t, "held")
		got := settle(redis, origin, heard, held, testFresh, testStale)
		switch {
		case got == useRedis && (redis.reply != found || redis.version < max(heard, held) || redis.age >= testStale):
			t.Fatalf("Redis is believed: %+v", redis)
		case got == useRedis && redis.age >= testFresh && origin.reply == found && origin.version >= max(heard, held, redis.version):
			t.Fatalf("Redis (%+v) is believed rather than the origin (%+v)", redis, origin)
		case got == useOrigin && (origin.reply != found || origin.version < max(heard, held)):
			t.Fatalf("the origin is believed: %+v", origin)
		case got == gone && redis.reply != deleted && origin.reply != absent:
			t.Fatal("nobody said that there is none")
		case got == askOrigin && origin.reply != notAsked:
			t.Fatal("the origin is asked twice")
		}
	})
}
