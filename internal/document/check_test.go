package document

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	most := make([]Change, MostChanges)
	for i := range most {
		most[i] = Change{Path: strings.Repeat("a", i+1), Value: make([]byte, MostBytes/MostChanges)}
	}
	for _, test := range []struct {
		name    string
		changes []Change
		want    string // in the error; empty = none
	}{
		{"one", []Change{{Path: "a"}}, ""},
		{"the most", most, ""},
		{"the longest path", []Change{{Path: strings.Repeat("a", MostPath)}}, ""},
		{"a deleted document's value does not count", []Change{{Path: "a", Value: make([]byte, MostBytes+1), Version: 1, Delete: true}}, ""},
		{"none", nil, "no change"},
		{"one too many", append(most[:MostChanges:MostChanges], Change{Path: "b", Version: 1, Delete: true}), "33 changes"},
		{"a byte too many", []Change{{Path: "a", Value: make([]byte, MostBytes)}, {Path: "b", Value: make([]byte, 1)}}, "262145 bytes"},
		{"twice", []Change{{Path: "a"}, {Path: "b"}, {Path: "a", Version: 1, Delete: true}}, "a is changed twice"},
		{"no version to delete", []Change{{Path: "a", Delete: true}}, "version 0"},
		{"no path", []Change{{Path: "a"}, {}}, `path ""`},
		{"a folder", []Change{{Path: "a/"}}, `path "a/"`},
		{"too long", []Change{{Path: strings.Repeat("a", MostPath+1)}}, "513 bytes"},
	} {
		if err := Check(test.changes); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
		}
	}
}

// A path is the same in a URL and in a file system, and can be listed by
// every beginning that it has.
func TestPathsMeanTheSameEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.StringOf(rapid.SampledFrom([]rune("aZ9-_.../// %?ä"))).Draw(t, "path")
		if CheckPath(drawn) != nil {
			return
		}
		if path.Clean("/"+drawn) != "/"+drawn || (&url.URL{Path: drawn}).EscapedPath() != drawn {
			t.Fatalf("%q is clean as %q, and escaped as %q", drawn, path.Clean(drawn), (&url.URL{Path: drawn}).EscapedPath())
		}
		for end := range len(drawn) + 1 {
			if err := CheckPrefix(drawn[:end]); err != nil {
				t.Fatal(err)
			}
		}
	})
}
