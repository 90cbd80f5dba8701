package billing_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/internal/testbed"
	"lightcone/usage"
	"lightcone/usage/billing"
)

// A bill and an invoice on a real S3 server are those on a folder, byte for byte.
func TestS3HoldsTheSameBillsAsAFolder(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	server := testbed.StartS3(t)
	written := make(map[string]map[string]string)
	for name, location := range map[string]string{"folder": t.TempDir(), "S3": server.Bucket(t, "usage", server.Address)} {
		p := newPlace(t, location)
		p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
		p.put(hour, "node-a-b", 1, calls(hour, 5, 10, "globex", time.Second))
		p.write(usage.HourPrefix(hour)+"node=node-a/readme.txt", []byte("hello"))
		if _, err := p.MapShare(t.Context(), hour, "run", billing.Share{Index: 1, Of: 2}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // again, and nothing changes
			if bill, err := p.ReduceHour(t.Context(), hour, "run", 2); err != nil || bill.Totals.Calls != 15 || len(bill.Refused) != 1 {
				t.Fatalf("billed %+v: %v", bill, err)
			}
			p.invoice(prices)
		}
		written[name] = p.tree("")
		if err := p.Bucket.Close(); err != nil {
			t.Error(err)
		}
	}
	if difference := cmp.Diff(written["folder"], written["S3"]); difference != "" {
		t.Errorf("S3 has something else:\n%s", difference)
	}
}
