// Command testreport reads the events of `go test -json` from standard input
// and prints what plain `go test` would: a line per package, and everything that
// a failed test said.
//
// It exists for one rule that go test does not have: a skipped test is a failure.
// A test that may quietly not run proves nothing on the machine where it matters.
//
// It exits 1 when a test failed or was skipped, a package did not build, or
// nothing ran at all. It does not run tests, and it does not judge what go test
// says on standard error: that goes past it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := report(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}

// event is one line of `go test -json`; `go doc test2json` describes it.
type event struct {
	Action, Package, Test, Output string
}

// reporter keeps what was said until it is known whether it matters.
type reporter struct {
	out      io.Writer
	said     map[string][]string // by package and, after a space, test
	packages int
	failed   []string
	skipped  []string
}

// report copies what matters from the events to out. Its error says what is
// wrong with the tests.
func report(events io.Reader, out io.Writer) error {
	r := &reporter{out: out, said: make(map[string][]string)}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line) // not an event: go's own words
			} else {
				r.take(e)
			}
		}
		if err == io.EOF {
			return r.verdict()
		}
		if err != nil {
			return fmt.Errorf("read the events of go test: %w", err)
		}
	}
}

func (r *reporter) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.said[key] = append(r.said[key], e.Output)
	case "build-output": // the package's own fail event follows
		fmt.Fprint(r.out, e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, key)
		}
	}
}

func (r *reporter) endTest(e event, key string) {
	switch e.Action {
	case "fail":
		r.failed = append(r.failed, key)
		r.print(key, anything)
	case "skip":
		r.skipped = append(r.skipped, key)
		r.print(key, anything)
	}
	delete(r.said, key)
}

// endPackage prints a package's summary and, when it failed, whatever its
// unfinished tests had said: the panic that ended it is in there.
func (r *reporter) endPackage(e event) {
	if e.Action == "fail" {
		r.failed = append(r.failed, e.Package)
		var unfinished []string
		for key := range r.said {
			if test, ours := strings.CutPrefix(key, e.Package+" "); ours && test != "" {
				unfinished = append(unfinished, key)
			}
		}
		slices.Sort(unfinished)
		for _, key := range unfinished {
			r.print(key, anything)
			delete(r.said, key)
		}
		r.print(e.Package+" ", anything)
	} else {
		r.packages++
		r.print(e.Package+" ", isSummary)
	}
	delete(r.said, e.Package+" ")
}

func (r *reporter) print(key string, wanted func(string) bool) {
	for _, line := range r.said[key] {
		if wanted(line) {
			fmt.Fprint(r.out, line)
		}
	}
}

func anything(string) bool { return true }

// isSummary says whether a line is go test's summary of a package.
func isSummary(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t")
}

func (r *reporter) verdict() error {
	switch {
	case len(r.failed) > 0:
		return fmt.Errorf("%d failed: %s", len(r.failed), strings.Join(r.failed, "; "))
	case len(r.skipped) > 0:
		return fmt.Errorf("%d skipped, which counts as failed: %s", len(r.skipped), strings.Join(r.skipped, "; "))
	case r.packages == 0:
		return fmt.Errorf("no package was tested")
	default:
		return nil
	}
}
