package identity

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
)

func TestTenantsComeBackFromTheirDocuments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := func(name string) int64 { return rapid.Int64Range(-1, 1e9).Draw(t, name) }
		want := Tenant{
			ID: "demo", Name: rapid.StringN(0, 20, 200).Draw(t, "name"), Disabled: rapid.Bool().Draw(t, "disabled"),
			Quota: lightcone.Quota{
				CallsPerSecond: float64(limit("rate")), Burst: int(limit("burst")), ConcurrentCalls: int(limit("concurrent")),
				CPUPerMonth: lightcone.NoLimit, BytesPerMonth: limit("bytes"),
			},
			Created: time.Unix(1_800_000_000, 0).UTC(),
		}
		if cpu := limit("cpu"); cpu >= 0 {
			want.Quota.CPUPerMonth = time.Duration(cpu) * time.Microsecond
		}
		if want.Quota.CallsPerSecond < 0 {
			want.Quota.Burst = lightcone.NoLimit // there is no rate for it to be above
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Tenant
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s\n%s", diff, text)
		}
	})
}

func TestRecordsComeBackFromTheirDocuments(t *testing.T) {
	key := keyFrom(t, 3)
	for _, want := range []Record{
		{ID: key.ID(), Digest: key.Digest(), Tenant: "demo", Scopes: Scopes{All: true}, Created: time.Unix(1, 0).UTC()},
		{ID: key.ID(), Digest: key.Digest(), Tenant: "demo", Scopes: Scopes{Functions: []lightcone.FunctionName{"resize", "echo"}}, Expires: time.Unix(2, 0).UTC(), Revoked: true},
		{ID: key.ID(), Digest: key.Digest(), Tenant: "demo"},
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Record
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestDocumentsThatCannotBeUsed(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"demo","quota":{"calls_per_second":-1}}`:           "calls_per_second",
		`{"id":"demo","quota":{"bytes_per_month":2e30}}`:          "bytes_per_month",
		`{"id":"demo","quota":{"burst":1e10}}`:                    "burst",
		`{"id":"Demo"}`:                                           "tenant",
		`{"id":"demo","name":"` + strings.Repeat("x", 201) + `"}`: "name",
	} {
		var tenant Tenant
		if err := json.Unmarshal([]byte(text), &tenant); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %q", text, err, want)
		}
	}
	var record Record
	if err := json.Unmarshal([]byte(`{"id":"aaaaaaaaaaaaaaaa","tenant":"demo","sha256":"`+strings.Repeat("0", 64)+`","scopes":["*","echo"]}`), &record); err == nil {
		t.Error("all scopes and a list were read")
	}
}
