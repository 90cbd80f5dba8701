package bulk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Lines are kept in order, each once, whichever saves fail.
func TestLinesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		out := memory(t)
		failing := false
		key := func(part int) string { return fmt.Sprintf("part-%03d", part) }
		kept := newLines(flaky{out, func(string, string) error {
			if failing {
				return errors.New("no")
			}
			return nil
		}}, key)
		added, largest := 0, 0
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			for range rapid.IntRange(0, 1500).Draw(t, "lines") {
				kept.add(added)
				added++
			}
			failing = rapid.Bool().Draw(t, "fails")
			if err := kept.save(context.Background()); err != nil && !failing {
				t.Fatal(err)
			}
		}
		failing = false
		if err := kept.save(context.Background()); err != nil {
			t.Fatal(err)
		}
		outputs, _ := contents(t, out)
		var whole strings.Builder
		for part := range len(outputs) {
			whole.WriteString(outputs[key(part)])
			largest = max(largest, strings.Count(outputs[key(part)], "\n"))
		}
		var want strings.Builder
		for i := range added {
			fmt.Fprintln(&want, i)
		}
		if whole.String() != want.String() || largest > partLines {
			t.Fatalf("%d lines in %d parts of at most %d, not as %d were added", strings.Count(whole.String(), "\n"), len(outputs), largest, added)
		}
		if len(kept.parts) != 1 || kept.parts[0].lines >= partLines {
			t.Fatalf("%d parts are kept in memory", len(kept.parts))
		}
	})
}

func TestAJournalThatIsSpoiltCostsOnlyWork(t *testing.T) {
	in, out, f := memory(t), memory(t), newFunction()
	put(t, in, map[string]string{"a.jpg": "webp one"})
	put(t, out, map[string]string{journalKey("job", 0, 1, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 0): "\x00{not JSON\n{}\n{\"key\":\"a.jpg\",\"work\":\"12\"}\n{\"key\":\"a.jpg\""})
	if p, err := Run(t.Context(), configForTest(in, out, f)); err != nil || p.Done != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}
