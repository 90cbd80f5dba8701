package identity

import (
	"crypto/sha256"
	"encoding/json"
	"testing"
	"time"

	"lightcone"
)

func TestEntriesFollowEachOther(t *testing.T) {
	var head Head
	noon := time.Date(2026, 11, 3, 12, 0, 0, 999_999, time.FixedZone("", 3600))
	for i, now := range []time.Time{noon, noon.Add(-time.Hour), noon.Add(time.Second)} { // the clock goes backwards once
		stored, next, err := head.Next(Entry{Actor: "operator", Action: "tenant.create", Subject: "acme", After: []byte(`{"a": "<"}`)}, now)
		if err != nil {
			t.Fatal(err)
		}
		var e Entry
		if err := json.Unmarshal(stored, &e); err != nil {
			t.Fatal(err)
		}
		if e.Sequence != uint64(i)+1 || e.Previous != head.Hash || e.Time.Before(head.Time) || e.Time.Location() != time.UTC || e.Time.Nanosecond()%1e6 != 0 {
			t.Errorf("entry %d after %+v: %+v", i+1, head, e)
		}
		want := Head{Sequence: e.Sequence, Hash: lightcone.Digest(sha256.Sum256(stored)), Time: e.Time}
		if next != want {
			t.Errorf("the head is %+v, want %+v", next, want)
		}
		head = next
	}
	if want := noon.Add(time.Second).Truncate(time.Millisecond); !head.Time.Equal(want) {
		t.Errorf("the last entry's time is %v, want %v", head.Time, want)
	}
	if _, _, err := head.Next(Entry{After: []byte("{")}, noon); err == nil {
		t.Error("an entry that cannot be encoded has a hash")
	}
}
