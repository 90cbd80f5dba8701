package management

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/internal/document"
)

type spending = map[lightcone.TenantID]lightcone.Usage

func testSpent(t *testing.T, store document.Store) {
	const gateways, rounds = 4, 5
	var done sync.WaitGroup
	for range gateways {
		s := NewSpent(store)
		done.Go(func() {
			for range rounds {
				_, err := s.Exchange(t.Context(), "2026-11", spending{"a": {CPU: 1, BytesIn: 2, BytesOut: 3}, "b": {CPU: 10}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	sums, err := NewSpent(store).Exchange(t.Context(), "2026-11", spending{"a": {}, "b": {}, "c": {}})
	want := spending{"a": {CPU: 20, BytesIn: 40, BytesOut: 60}, "b": {CPU: 200}, "c": {}}
	if diff := cmp.Diff(want, sums); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

func TestSpentForgetsOldMonths(t *testing.T) {
	store := newStore(t)
	s := NewSpent(store)
	spent := spending{"a": {CPU: 1}, "b": {BytesIn: 1}}
	for _, month := range []string{"2026-10", "2026-11", "2026-12", "2027-01"} {
		if _, err := s.Exchange(t.Context(), month, spent); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := store.Paths(t.Context(), spentPrefix)
	if err != nil || len(paths) == 0 || !strings.HasPrefix(paths[0], "spent/2026-11/") {
		t.Fatalf("%v, %v: want the months from 2026-11 on", paths, err)
	}
	for _, month := range []string{"", "2026-13", "11-2026", "2026-11-01", "../../etc"} {
		if _, err := s.Exchange(t.Context(), month, spent); err == nil {
			t.Errorf("the month %q was taken", month)
		}
	}
}

// TestSpentOfManyTenants is a region's worth of tenants with the longest names and
// the largest numbers.
func TestSpentOfManyTenants(t *testing.T) {
	spent := make(spending)
	for i := range 100_000 {
		spent[lightcone.TenantID(fmt.Sprintf("t%062d", i))] = lightcone.Usage{CPU: math.MaxInt64, BytesIn: math.MaxInt64, BytesOut: math.MaxInt64}
	}
	s, began := NewSpent(newStore(t)), time.Now()
	sums, err := s.Exchange(t.Context(), "2026-11", spent)
	if err != nil || len(sums) != len(spent) {
		t.Fatalf("%d sums, %v", len(sums), err)
	}
	t.Logf("100 000 tenants in %v", time.Since(began))
}

func TestSpentAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amounts := rapid.SliceOfN(rapid.Int64(), 3, 3)
		was := rapid.MapOfN(rapid.SampledFrom([]lightcone.TenantID{"a", "b", "c"}), rapid.SliceOfN(rapid.Int64Range(0, math.MaxInt64), 3, 3), 0, 3).Draw(t, "was")
		more := rapid.MapOfN(rapid.SampledFrom([]lightcone.TenantID{"b", "c", "d"}), amounts, 0, 3).Draw(t, "more")
		before, spent := make(usages), make(usages)
		for tenant, n := range was {
			before[tenant] = [3]int64(n)
		}
		for tenant, n := range more {
			spent[tenant] = [3]int64(n)
		}
		stored, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		sum, changed, err := added(stored, spent)
		if err != nil {
			t.Fatal(err)
		}
		grown := false
		for _, tenant := range []lightcone.TenantID{"a", "b", "c", "d"} {
			for i := range 3 {
				want := before[tenant][i]
				if n := spent[tenant][i]; n > math.MaxInt64-want {
					want = math.MaxInt64
				} else if n > 0 {
					want += n
				}
				grown = grown || want != before[tenant][i]
				if sum[tenant][i] != want {
					t.Fatalf("%s: %d, want %d", tenant, sum[tenant][i], want)
				}
			}
		}
		if grown != (changed != nil) {
			t.Fatalf("grown: %v, written: %v", grown, changed != nil)
		}
	})
}
