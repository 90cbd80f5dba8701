package usage

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigurationsThatCannotBe(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(*Config){
		"absolute":      func(c *Config) { c.Dir = "here" },
		"node":          func(c *Config) { c.Node = "Gateway/1" },
		"logger":        func(c *Config) { c.Logger = nil },
		"segments of":   func(c *Config) { c.SealBytes = 10 },
		"sealing":       func(c *Config) { c.SealAge = -1 },
		"syncing":       func(c *Config) { c.SyncEvery = time.Hour },
		"at least 4":    func(c *Config) { c.MaxDiskBytes = c.SealBytes },
		"want a folder": func(c *Config) { c.Bucket = "ftp://host/usage" },
	} {
		config, _ := configFor(t, t.TempDir())
		spoil(&config)
		if _, err := Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
}

// A folder with records that wait belongs to the node that made them: under another
// name they would read as damaged.
func TestAFolderOfAnotherNode(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	l := begin(t, config)
	put(t, l, records(0, 5))
	abandon(l)
	other := config
	other.Node = "gw-2"
	if _, err := Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), `of node "gw-1"`) {
		t.Errorf("opened: %v", err)
	}
	if err := halt(begin(t, config)); err != nil {
		t.Fatal(err)
	}
	expectStored(t, bucketOf(t, config), records(0, 5))
}

func TestCountsThatDoNotAddUp(t *testing.T) {
	t.Parallel()
	good := Counts{Node: "gw-1", Hour: past}.replace("7", Share{Closed: true, Answered: 5}, []SequenceCount{{Sequence: 7, Rows: 4, Torn: 1, Ledger: "7"}})
	content, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseCounts(content)
	if diff := cmp.Diff(good, again); diff != "" || err != nil {
		t.Fatal(err, diff)
	}
	for _, change := range [][2]string{
		{`"answered":5`, `"answered":6`}, {`"rows":4`, `"rows":-4`}, {`"node":"gw-1"`, `"node":"GW"`}, {`"ledger":"7"`, `"ledger":"8"`}, {`{`, `[`},
	} {
		if c, err := ParseCounts([]byte(strings.Replace(string(content), change[0], change[1], 1))); err == nil {
			t.Errorf("with %s: %+v", change[1], c)
		}
	}
}
