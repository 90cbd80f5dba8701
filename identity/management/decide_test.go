package management

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
)

// TestDecisions runs the transcript of what changes do to documents. A command is
// a decision about the document that it names as its input, or about none:
//
//	create id= [name=]
//	edit id= [name=] [disabled=] [rate=] [version=]
//	issue [scopes=a+b] [expires=]
//	revoke
//
// Documents are at version 7, and it is noon.
func TestDecisions(t *testing.T) {
	noon := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	datadriven.RunTest(t, "testdata/decide.txt", func(t *testing.T, d *datadriven.TestData) string {
		var found read
		if d.Input != "" {
			found = read{Path: "where/it/was", Value: []byte(d.Input), Version: 7}
		}
		decided, err := decisionOf(t, d)(found, noon)
		if err != nil {
			return fmt.Sprintf("%s: %s", problem.Of(err).Kind, problem.Of(err).Detail)
		}
		if decided.action == "" {
			return "nothing"
		}
		head := identity.Head{Sequence: 4, Hash: lightcone.DigestOf([]byte("entry 4")), Time: noon.Add(time.Hour)}
		changes, err := commitOf(decided, "operator", head, 6, noon)
		if err != nil {
			t.Fatal(err)
		}
		return transcript(changes)
	})
}

func transcript(changes []document.Change) string {
	var text strings.Builder
	for _, change := range changes {
		fmt.Fprintf(&text, "%s over version %d\n  %s\n", change.Path, change.Version, change.Value)
	}
	return text.String()
}

// decisionOf is the decision that a command of the transcript names.
func decisionOf(t *testing.T, d *datadriven.TestData) decide {
	argument := func(name string) (value string, given bool) {
		if given = d.HasArg(name); given {
			d.ScanArgs(t, name, &value)
		}
		return value, given
	}
	id, _ := argument("id")
	name, named := argument("name")
	switch d.Cmd {
	case "create":
		return creating(lightcone.TenantID(id), name)
	case "edit":
		var edit Edit
		if named {
			edit.Name = &name
		}
		if text, given := argument("disabled"); given {
			disabled := text == "true"
			edit.Disabled = &disabled
		}
		if text, given := argument("rate"); given {
			rate, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			quota := lightcone.Unlimited
			quota.CallsPerSecond = rate
			edit.Quota = &quota
		}
		var versions []uint64
		if text, given := argument("version"); given {
			version, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, version)
		}
		return editing(lightcone.TenantID(id), edit, versions)
	case "issue":
		var scopes identity.Scopes
		if text, _ := argument("scopes"); text != "" {
			if err := json.Unmarshal([]byte(`["`+strings.ReplaceAll(text, "+", `","`)+`"]`), &scopes); err != nil {
				t.Fatal(err)
			}
		}
		record := identity.Record{ID: "aaaaaaaaaaaaaaaa", Tenant: "acme", Scopes: scopes}
		if text, given := argument("expires"); given {
			expires, err := time.Parse(time.RFC3339, text)
			if err != nil {
				t.Fatal(err)
			}
			record.Expires = expires
		}
		return func(found read, at time.Time) (decision, error) {
			if err := checkRecord(record, at); err != nil {
				return decision{}, err
			}
			return admitting("key.issue", record)(found, at)
		}
	case "revoke":
		return revoking("aaaaaaaaaaaaaaaa")
	}
	t.Fatalf("no such decision: %s", d.Cmd)
	return nil
}
