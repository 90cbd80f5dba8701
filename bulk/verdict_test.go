package bulk

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"lightcone/functions"
	"lightcone/internal/problem"
)

func (v verdict) String() string {
	text := map[outcome]string{done: "done", bad: "bad", passing: "passing", ended: "ended"}[v.outcome]
	if v.remember {
		text += ", remembered"
	}
	if v.kind != "" {
		text += fmt.Sprintf(": %s: %s", v.kind, v.detail)
	}
	return text
}

func TestVerdicts(t *testing.T) {
	datadriven.RunTest(t, "testdata/verdict.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "answer":
			answer := functions.Answer{Status: 200, Body: []byte("A sentence.")}
			var kind string
			d.MaybeScanArgs(t, "status", &answer.Status)
			d.MaybeScanArgs(t, "problem", &kind)
			answer.Problem = problem.Kind(kind)
			return judge(&answer, nil).String() + "\n"
		case "error":
			var kind, exec string
			d.MaybeScanArgs(t, "kind", &kind)
			d.MaybeScanArgs(t, "exec", &exec)
			var answer functions.Answer
			answer.Exec, _ = time.ParseDuration(exec)
			if kind == "" {
				return judge(&answer, errors.New("open /secret")).String() + "\n"
			}
			return judge(&answer, problem.New(problem.Kind(kind), "A sentence.")).String() + "\n"
		case "read":
			err := map[string]error{"gone": ErrNotFound, "long": ErrTooLong, "storage": errors.New("connection reset")}[d.CmdArgs[0].Key]
			return judgeRead(fmt.Errorf("read: %w", err), 1000).String() + "\n"
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		}
	})
}

func TestBackOff(t *testing.T) {
	datadriven.RunTest(t, "testdata/backoff.txt", func(t *testing.T, d *datadriven.TestData) string {
		var random float64
		d.ScanArgs(t, "random", &random)
		var text string
		for attempt := 1; ; attempt++ {
			wait, again := DefaultPolicy.after(attempt, random)
			if !again {
				return text + "no more\n"
			}
			text += wait.String() + "\n"
		}
	})
}

func TestTheBudgetBoundsRetries(t *testing.T) {
	b := newBudget()
	const objects = 1000
	retries := 0
	for range objects {
		b.Deposit()
		for b.Withdraw() {
			retries++
		}
	}
	if most := budgetReserve + objects*budgetShare; float64(retries) > most || float64(retries) < most-2 {
		t.Errorf("%d retries for %d objects, want at most and about %.0f", retries, objects, most)
	}
}
