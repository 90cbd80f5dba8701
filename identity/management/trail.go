package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
)

// Audit reads up to limit entries of the audit trail as they are stored, from the
// one after the given number. last is the number of the trail's last entry.
func (m *Manager) Audit(ctx context.Context, after uint64, limit int) (entries []json.RawMessage, last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	head, _, err := m.head(ctx)
	if err != nil {
		return nil, 0, err
	}
	stored, err := m.stretch(ctx, after, min(after+uint64(min(max(limit, 1), MostPerPage)), head.Sequence))
	if err != nil {
		return nil, 0, err
	}
	entries = make([]json.RawMessage, 0, len(stored)) // [] in JSON, not null
	for i, entry := range stored {
		if !json.Valid(entry) { // also one that is missing
			return nil, 0, m.hide("read the audit trail", fmt.Errorf("entry %d is damaged: verify the trail", after+uint64(i)+1))
		}
		entries = append(entries, entry)
	}
	return entries, head.Sequence, nil
}

// stretch reads the trail's documents after one number up to and with another; one
// that is missing is nil.
func (m *Manager) stretch(ctx context.Context, after, upTo uint64) (stored [][]byte, err error) {
	var paths []string
	for n := after; n < upTo; n++ {
		paths = append(paths, identity.AuditPath(n+1))
	}
	documents, err := m.getAll(ctx, paths)
	for _, d := range documents {
		stored = append(stored, d.Value)
	}
	return stored, err
}

// Verification is what was found about a part of the audit trail.
type Verification struct {
	Verified uint64           `json:"verified"`          // up to which entry, counted from the first, nothing is wrong
	Last     uint64           `json:"last"`              // the number of the last entry, as the trail's head has it
	Hash     lightcone.Digest `json:"hash"`              // of the last entry: note it, and a trail made anew shows
	Entry    uint64           `json:"entry,omitempty"`   // the first that something is wrong with
	Finding  string           `json:"finding,omitempty"` // a sentence about it; empty = nothing is wrong
}

// Done says whether there is nothing more to verify.
func (v Verification) Done() bool { return v.Finding != "" || v.Verified >= v.Last }

// VerifyAudit reads the audit trail after an entry that has been verified (0: from its
// start), at most MostPerPage entries of it, and says what is wrong: an entry that is
// missing, altered, in another's place or past the trail's head. Call it until
// its answer is Done.
func (m *Manager) VerifyAudit(ctx context.Context, after uint64) (Verification, error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	for {
		found, err := m.get(ctx, identity.AuditHead)
		if err != nil {
			return Verification{}, err
		}
		head, err := decodeHead(found)
		if err != nil {
			return Verification{Verified: after, Finding: fmt.Sprintf("The trail's head cannot be read: %v.", err)}, nil
		}
		if after > head.Sequence {
			return Verification{}, problem.New(problem.BadParameter, "The audit trail has %d entries, and none after %d.", head.Sequence, after)
		}
		upTo := min(after+MostPerPage, head.Sequence)
		stored, err := m.stretch(ctx, after, upTo+1)
		if err != nil {
			return Verification{}, err
		}
		v := verify(after, stored[:upTo-after], stored[upTo-after], head)
		if v.Finding != "" || upTo < head.Sequence || stored[upTo-after] == nil {
			return v, nil
		}
		// An entry past the head: unless the head has moved, nobody made it as a change.
		again, err := m.get(ctx, identity.AuditHead)
		if err != nil {
			return Verification{}, err
		}
		if again.Version == found.Version {
			v.Entry = upTo + 1
			v.Finding = fmt.Sprintf("Entry %d is past the trail's head: the head was put back, or the entry was planted.", v.Entry)
			return v, nil
		}
	}
}

// decodeHead reads the trail's head, strictly: the zero document is a trail without
// entries, and any other has one encoding.
func decodeHead(found document.Document) (head identity.Head, err error) {
	if found.Version == 0 {
		return head, nil
	}
	if err := json.Unmarshal(found.Value, &head); err != nil {
		return head, err
	}
	again, err := json.Marshal(head)
	if err == nil && string(again) != string(found.Value) {
		err = errors.New("it is not encoded as heads are")
	}
	return head, err
}

// verify looks at the stored entries after the given number; next is the one after
// them. It goes backwards from next or, at the trail's end, from the head, for
// each entry that is as its follower says vouches for the one before it: so it names
// what was altered and not its neighbour.
func verify(after uint64, stored [][]byte, next []byte, head identity.Head) Verification {
	last := after + uint64(len(stored))
	v := Verification{Verified: last, Last: head.Sequence, Hash: head.Hash}
	wrong := func(n uint64, err error) {
		v.Entry, v.Verified, v.Finding = n, n-1, fmt.Sprintf("Entry %d %v.", n, err)
	}
	expected := &head.Hash // nil where the follower is not to be trusted
	check := func(stored []byte, n uint64) {
		e, err := decodeEntry(stored, n, expected)
		if expected = &e.Previous; err != nil {
			wrong(n, err)
			expected = nil
		}
		if n == head.Sequence && err == nil && !e.Time.Equal(head.Time) {
			v.Finding = "The time in the trail's head is not that of its last entry: the head was altered."
		}
		if n == 1 && err == nil && e.Previous != (lightcone.Digest{}) {
			wrong(n, fmt.Errorf("follows another, which is missing, with the hash %s", e.Previous))
		}
	}
	if last < head.Sequence {
		expected = nil
		check(next, last+1)
	}
	for n := last; n > after; n-- {
		check(stored[n-after-1], n)
	}
	return v
}

// decodeEntry reads entry n, which must have the expected hash, if there is one.
func decodeEntry(stored []byte, n uint64, expected *lightcone.Digest) (e identity.Entry, err error) {
	if stored == nil {
		return e, errors.New("is missing")
	}
	if err := json.Unmarshal(stored, &e); err != nil {
		return e, fmt.Errorf("was altered, and cannot be read: %w", err)
	}
	if e.Sequence != n {
		return e, fmt.Errorf("is in another's place: it says that it is entry %d", e.Sequence)
	}
	if hash := identity.EntryHash(stored); expected != nil && hash != *expected {
		return e, fmt.Errorf("was altered: its hash is %s, and what follows it, an entry or the trail's head, has %s", hash, *expected)
	}
	return e, nil
}
