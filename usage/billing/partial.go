package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Share is one of several shares of the calls.
type Share struct {
	Index int `json:"share"`  // from 0
	Of    int `json:"shares"` // how many there are
}

// ParseShare reads a share such as 0/3.
func ParseShare(text string) (Share, error) {
	var s Share
	if n, err := fmt.Sscanf(text, "%d/%d", &s.Index, &s.Of); err != nil || n != 2 || text != s.String() {
		return Share{}, fmt.Errorf("share %q: want the share and how many there are, such as 0/3", text)
	}
	return s, s.validate()
}

const mostShares = 1000

func (s Share) validate() error {
	if s.Of < 1 || s.Of > mostShares || s.Index < 0 || s.Index >= s.Of {
		return fmt.Errorf("share %d of %d: want 1 to %d shares, and this one from 0 to one less than that", s.Index, s.Of, mostShares)
	}
	return nil
}

// String is the share as ParseShare reads it.
func (s Share) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Of) }

// ErrRecords is in the error of a fold that failed because of what is in a file, and
// not because of what is around it.
var ErrRecords = errors.New("its records cannot be used")

// Folder folds records; package duckdb has one.
type Folder interface {
	// Fold counts each call of a share once and adds up what they used, from Parquet
	// files whose records all have to begin in the given hour. See ErrRecords.
	Fold(ctx context.Context, files []string, hour time.Time, share Share) (Folded, error)

	// Sum adds up every record of some files, copies too.
	Sum(ctx context.Context, files []string) ([]Row, error)
}

// Folded is what a share of some files came to.
type Folded struct {
	Rows     []Row
	Billed   []int64 // for each file, the calls that no file before it has
	Disputed int64   // calls whose copies differ
	Strays   int64   // calls whose id is of another hour
}

// Partial is what a share of an hour came to: the map's result.
type Partial struct {
	Share
	Hour     string         `json:"hour"`
	Rows     []Row          `json:"rows"`
	Objects  []BilledObject `json:"objects"`
	Refused  []Refused      `json:"refused"`
	Disputed int64          `json:"disputed"`
	Strays   int64          `json:"strays"`
}

// sameObjects says whether two partials are of the same records.
func (p *Partial) sameObjects(other *Partial) bool {
	return slices.EqualFunc(p.Objects, other.Objects, func(a, b BilledObject) bool { return a.Key == b.Key && a.Rows == b.Rows }) &&
		slices.EqualFunc(p.Refused, other.Refused, func(a, b Refused) bool { return a.Key == b.Key })
}

// reduce adds the partials of all shares of an hour. It is the same in every order
// of them.
func reduce(partials []*Partial) (Bill, []Row, error) {
	partials = slices.Clone(partials)
	slices.SortFunc(partials, func(a, b *Partial) int { return a.Index - b.Index })
	first := partials[0]
	bill := Bill{Hour: first.Hour, Objects: slices.Clone(first.Objects), Refused: first.Refused}
	for i := range bill.Objects {
		bill.Objects[i].Billed = 0
	}
	rows := make([][]Row, 0, len(partials))
	for i, p := range partials {
		if p.Index != i || p.Of != len(partials) || p.Hour != first.Hour || !p.sameObjects(first) {
			return Bill{}, nil, fmt.Errorf("share %v of hour %s does not belong to the others: map the hour again", p.Share, p.Hour)
		}
		rows = append(rows, p.Rows)
		for o := range bill.Objects {
			bill.Objects[o].Billed += p.Objects[o].Billed
		}
		bill.Disputed += p.Disputed
		bill.Strays += p.Strays
	}
	sums, err := addRows(rows...)
	if err != nil {
		return Bill{}, nil, fmt.Errorf("hour %s: %w", first.Hour, err)
	}
	var billed int64
	for _, row := range sums {
		if err := bill.Totals.add(row.quantities()); err != nil {
			return Bill{}, nil, fmt.Errorf("hour %s: %w", first.Hour, err)
		}
	}
	for _, object := range bill.Objects {
		billed += object.Billed
	}
	if billed != bill.Totals.Calls {
		return Bill{}, nil, fmt.Errorf("hour %s: the objects account for %d calls, the tenants for %d", first.Hour, billed, bill.Totals.Calls)
	}
	return bill, sums, nil
}

func compareRefused(a, b Refused) int { return strings.Compare(a.Key, b.Key) }
