package identity

import (
	"encoding/json"
	"fmt"
	"time"

	"lightcone"
)

// Head is the document at AuditHead: the end of the audit trail.
type Head struct {
	Sequence uint64           `json:"sequence"` // of the last entry
	Hash     lightcone.Digest `json:"hash"`     // of the last entry
	Time     time.Time        `json:"time"`     // of the last entry: the next one's is not before it
}

// Entry is one entry of the audit trail: a change of the management plane, and the
// paths of the documents that it changed.
type Entry struct {
	Sequence uint64           `json:"sequence"`
	Time     time.Time        `json:"time"`    // never before the entry before's, whatever the clock does
	Actor    string           `json:"actor"`   // who: the id of the operator's key
	Action   string           `json:"action"`  // what, such as key.revoke
	Subject  string           `json:"subject"` // of which tenant or key
	Before   json.RawMessage  `json:"before,omitempty"`
	After    json.RawMessage  `json:"after,omitempty"`
	Changed  []string         `json:"changed"`  // paths
	Previous lightcone.Digest `json:"previous"` // the hash of the entry before; zeros for the first
}

// EntryHash is what chains the trail: the SHA-256 of an entry's document exactly as
// it is stored, which is one encoding of it and holds the hash of the entry before:
//
//	hash(n) = SHA-256(stored(n)), stored(n) contains hash(n-1), hash(0) = zeros
//
// So the hash of the last entry stands for the whole trail. The trail proves that
// nobody changed a part of it; who can write everything can write another trail,
// and is found out by a hash that was noted elsewhere.
func EntryHash(stored []byte) lightcone.Digest { return lightcone.DigestOf(stored) }

// Next is the entry e as the trail's next one after head, encoded for its document,
// and the trail's head with it. It fills in the sequence, the hash of the entry
// before and the time, which is After(now).
func (head Head) Next(e Entry, now time.Time) (stored []byte, next Head, err error) {
	e.Sequence, e.Previous = head.Sequence+1, head.Hash
	e.Time = head.After(now)
	stored, err = json.Marshal(e)
	if err != nil {
		return nil, Head{}, fmt.Errorf("encode entry %d of the audit trail: %w", e.Sequence, err)
	}
	return stored, Head{Sequence: e.Sequence, Hash: EntryHash(stored), Time: e.Time}, nil
}

// After is now in UTC to the millisecond, or the head's own time if that is later.
func (head Head) After(now time.Time) time.Time {
	now = now.UTC().Truncate(time.Millisecond)
	if now.Before(head.Time) {
		return head.Time
	}
	return now
}
