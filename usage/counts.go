package usage

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Counts is what one node counted in one hour, by the calls' start: one JSON
// object a node and hour in the bucket, replaced as the hour goes on. It says what
// there must be, without looking at what there is. When Closed,
//
//	Answered + Interrupted = Recorded + Torn
//
// holds if nothing was lost or doubled at the node, and each of Sequences must be
// in the bucket with exactly its Rows. A difference between the two sides is named
// by node, hour and count; one between a sequence's Rows and the stored object's,
// or a number missing between two of one ledger (they have no gaps), by the
// sequence as well.
type Counts struct {
	Node        string           `json:"node"`
	Hour        time.Time        `json:"hour"`        // its beginning, UTC
	Closed      bool             `json:"closed"`      // all of it is in the bucket, and the hour is over or the node was stopped in order; a late record, or the node's next start in that hour, opens it again
	Answered    int64            `json:"answered"`    // calls, counted by whoever answers them, not derived from records
	Recorded    int64            `json:"recorded"`    // the sum of the sequences' rows
	Torn        int64            `json:"torn"`        // records that were damaged, and are lost: the sum of the sequences'
	Interrupted int64            `json:"interrupted"` // calls whose process was killed between record and answer
	Sequences   []SequenceCount  `json:"sequences"`   // of sealed segments, ascending
	Ledgers     map[string]Share `json:"ledgers"`     // by the ledger's first sequence: more than one if the node lost its disk
}

// SequenceCount is what a segment holds of one hour.
type SequenceCount struct {
	Sequence uint64 `json:"sequence"`
	Rows     int64  `json:"rows"` // 0 = there is no object
	Torn     int64  `json:"torn"` // at least so many; a damaged record counts in the hour of the one before it
	Ledger   string `json:"ledger"`
}

// Share is one ledger's part of Counts.
type Share struct {
	Closed      bool  `json:"closed"`
	Answered    int64 `json:"answered"`
	Interrupted int64 `json:"interrupted"`
}

// ParseCounts reads an object of counts. Its error names what does not fit: sums
// that do not add up, sequences out of order, negative numbers.
func ParseCounts(content []byte) (Counts, error) {
	var c Counts
	if err := json.Unmarshal(content, &c); err != nil {
		return Counts{}, fmt.Errorf("counts: %w", err)
	}
	if err := ValidateNode(c.Node); err != nil {
		return Counts{}, fmt.Errorf("counts: %w", err)
	}
	for name, share := range c.Ledgers {
		if share.Answered < 0 || share.Interrupted < 0 {
			return Counts{}, fmt.Errorf("counts of %s: ledger %s: %+v has a negative number", c.Node, name, share)
		}
	}
	for i, s := range c.Sequences {
		if _, known := c.Ledgers[s.Ledger]; !known || s.Rows < 0 || s.Torn < 0 || i > 0 && c.Sequences[i-1].Sequence >= s.Sequence {
			return Counts{}, fmt.Errorf("counts of %s: sequence %d does not fit: %+v", c.Node, s.Sequence, s)
		}
	}
	added := c
	added.add()
	if added.Answered != c.Answered || added.Recorded != c.Recorded || added.Torn != c.Torn || added.Interrupted != c.Interrupted || added.Closed != c.Closed {
		return Counts{}, fmt.Errorf("counts of %s for %s: the sums are not those of the parts", c.Node, c.Hour.Format(time.RFC3339))
	}
	return c, nil
}

// Difference is Recorded + Torn - Answered - Interrupted: below zero, so many
// records are missing; above, so many have no answer.
func (c Counts) Difference() int64 { return c.Recorded + c.Torn - c.Answered - c.Interrupted }

// add computes the sums from the parts.
func (c *Counts) add() {
	c.Closed, c.Answered, c.Recorded, c.Torn, c.Interrupted = true, 0, 0, 0, 0
	for _, share := range c.Ledgers {
		c.Closed = c.Closed && share.Closed
		c.Answered += share.Answered
		c.Interrupted += share.Interrupted
	}
	for _, s := range c.Sequences {
		c.Recorded += s.Rows
		c.Torn += s.Torn
	}
}

// replace puts one ledger's part into what the bucket has: other ledgers' parts
// stay. It is idempotent, and does not depend on an earlier version of the part.
func (c Counts) replace(ledger string, share Share, sequences []SequenceCount) Counts {
	next := Counts{Node: c.Node, Hour: c.Hour, Ledgers: map[string]Share{}, Sequences: []SequenceCount{}}
	maps.Copy(next.Ledgers, c.Ledgers)
	next.Ledgers[ledger] = share
	for _, s := range c.Sequences {
		if s.Ledger != ledger {
			next.Sequences = append(next.Sequences, s)
		}
	}
	next.Sequences = append(next.Sequences, sequences...)
	slices.SortFunc(next.Sequences, func(a, b SequenceCount) int {
		if a.Sequence < b.Sequence {
			return -1
		}
		return 1
	})
	next.add()
	return next
}
