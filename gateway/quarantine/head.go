package quarantine

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"lightcone"
	"lightcone/internal/document"
)

const (
	headPath        = "quarantine/head"
	strikesPath     = "quarantine/strikes/"
	quarantinedPath = "quarantine/inputs/"

	mostChanges = 64        // in the head: more within one wait, and the waiter reads everything
	mostHead    = 256 << 10 // bytes
)

// change is one change of what is in quarantine: one of its fields is set.
type change struct {
	Quarantined *Entry            `json:"quarantined,omitempty"`
	Lifted      *lightcone.Digest `json:"lifted,omitempty"`
}

// head is the document at headPath: how many changes there have been, and the last
// of them, the newest at the end.
type head struct {
	Sequence uint64   `json:"sequence"`
	Changes  []change `json:"changes"`
}

// with is the head after one more change.
func (h head) with(c change) head {
	changes := append(slices.Clone(h.Changes), c)
	return head{h.Sequence + 1, changes[max(len(changes)-mostChanges, 0):]}
}

// since are the changes after the given sequence number. whole is false when the
// head does not hold them all, or is a new one that has begun from the start.
func (h head) since(sequence uint64) (changes []change, whole bool) {
	if h.Sequence <= sequence || h.Sequence-sequence > uint64(len(h.Changes)) {
		return h.Changes, false
	}
	return h.Changes[uint64(len(h.Changes))-(h.Sequence-sequence):], true
}

func (h head) encode() []byte {
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // see Entry.encode
	}
	return text
}

// decodeHead reads the head's document.
func decodeHead(text []byte) (head, error) {
	var h head
	if len(text) > mostHead {
		return head{}, fmt.Errorf("it has %d bytes, more than a head's %d", len(text), mostHead)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return head{}, err
	}
	if len(h.Changes) > mostChanges || uint64(len(h.Changes)) > h.Sequence {
		return head{}, fmt.Errorf("it has %d changes by the sequence number %d: want at most %d", len(h.Changes), h.Sequence, mostChanges)
	}
	for i, c := range h.Changes {
		if (c.Quarantined == nil) == (c.Lifted == nil) {
			return head{}, fmt.Errorf("its change %d is not one of quarantined and lifted", i)
		}
		if c.Quarantined == nil {
			continue
		}
		if err := c.Quarantined.validate(); err != nil {
			return head{}, fmt.Errorf("its change %d: %w", i, err)
		}
	}
	return h, nil
}

// stored is what the store has about one input, and its head. Versions are 0, and
// entries nil, of documents that are not there; of one that cannot be read, and
// will be written over, only the version is known.
type stored struct {
	strike, quarantined        *Entry
	strikeVersion, heldVersion uint64
	head                       head
	headVersion                uint64
}

// share decides what to write so that all gateways know what this one has seen of
// an input: nothing when they do already.
func share(now time.Time, mine Entry, s stored) []document.Change {
	if s.quarantined != nil && !s.quarantined.expired(now) {
		return nil
	}
	path := strikesPath + mine.Digest.String()
	if s.strike != nil && !s.strike.expired(now) {
		if mine = merge(mine, *s.strike); !mine.deadly() {
			return nil // it was this very strike, written before
		}
	}
	if !mine.deadly() {
		return []document.Change{{Path: path, Value: mine.encode(), Version: s.strikeVersion}}
	}
	changes := []document.Change{
		{Path: quarantinedPath + mine.Digest.String(), Value: mine.encode(), Version: s.heldVersion},
		{Path: headPath, Value: s.head.with(change{Quarantined: &mine}).encode(), Version: s.headVersion},
	}
	if s.strikeVersion > 0 {
		changes = append(changes, document.Change{Path: path, Version: s.strikeVersion, Delete: true})
	}
	return changes
}

// lift decides what to write so that all gateways forget an input.
func lift(digest lightcone.Digest, s stored) []document.Change {
	changes := []document.Change{{Path: headPath, Value: s.head.with(change{Lifted: &digest}).encode(), Version: s.headVersion}}
	if s.heldVersion > 0 {
		changes = append(changes, document.Change{Path: quarantinedPath + digest.String(), Version: s.heldVersion, Delete: true})
	}
	if s.strikeVersion > 0 {
		changes = append(changes, document.Change{Path: strikesPath + digest.String(), Version: s.strikeVersion, Delete: true})
	}
	return changes
}

// some are at most n of the paths, in a row from a place that random, in [0, 1),
// picks: so that gateways share the work of looking at all of them.
func some(paths []string, n int, random float64) []string {
	if len(paths) <= n {
		return paths
	}
	start := int(random * float64(len(paths)))
	return slices.Concat(paths[start:], paths[:start])[:n]
}
