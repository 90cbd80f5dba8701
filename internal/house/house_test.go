package house

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTheHouse holds the project to its rules.
func TestTheHouse(t *testing.T) {
	files := trackedFiles(t)
	sources := readSources(t, files)
	if len(sources) < 10 {
		t.Fatalf("only %d Go files found under %s: the rules would prove nothing", len(sources), root)
	}
	page, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []struct {
		name   string
		broken []string
	}{
		{"imports follow the direction", brokenImports(sources)},
		{"one vendor, one folder", strayVendors(sources)},
		{"packages are explained", shortPackageComments(sources)},
		{"files are short", longFiles(sources)},
		{"names say something", emptyNamesIn(files, sources)},
		{"exported names are explained", unexplained(sources)},
		{"ARCHITECTURE.md maps the tree", differences(string(page), files)},
	} {
		t.Run(rule.name, func(t *testing.T) {
			for _, broken := range rule.broken {
				t.Error(broken)
			}
		})
	}
}
