package billing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"lightcone/usage"
	"lightcone/usage/store"
)

// gaps looks for segments that nothing in the bucket speaks of: an hour's objects and
// the node's counts of it, lost together. A ledger numbers its segments without gaps,
// from the number that it is named by; so each number's predecessor must be in some
// hour's counts. What was lost is of an hour that cannot be said: so the reports of the
// hours beside it name it, too. What a ledger wrote last, and was never followed by
// anything, leaves no gap.
type gaps struct {
	bucket *store.Bucket
	known  map[string]map[uint64]bool      // numbers, by node
	wanted map[string]map[uint64]time.Time // numbers that must be somewhere, by node; since when there may be counts
}

// A record may be older than its ledger, and a clock may have been ahead: counts are
// looked for so much before a ledger began, and after the hour.
const (
	daysBefore = daysRedriven
	daysAfter  = 1
)

// daysRedriven is how old a call may be when its record is made: the queue keeps a letter of
// it for 14 days, after the hours in which it was not done, and a redrive runs it again.
const daysRedriven = 15

// findGaps looks at the numbers in an hour's counts, and in those of the hours beside
// it: the node may have none of this one any more.
func findGaps(ctx context.Context, bucket *store.Bucket, hour time.Time, counts []usage.Counts, objects map[string]stored) ([]Finding, error) {
	g := gaps{bucket: bucket, known: make(map[string]map[uint64]bool), wanted: make(map[string]map[uint64]time.Time)}
	for _, beside := range []time.Duration{-time.Hour, time.Hour} {
		more, _, err := readCounts(ctx, bucket, hour.Add(beside)) // what is wrong with these, their own hour's report says
		if err != nil {
			return nil, err
		}
		counts = slices.Concat(counts, more)
	}
	for _, count := range counts {
		g.learn(count)
	}
	for _, o := range objects {
		g.know(o.object.Node, o.object.Sequence) // an object that is not counted has its finding
	}
	for _, count := range counts {
		g.want(count)
	}
	earliest := hour
	for _, numbers := range g.wanted {
		for _, since := range numbers {
			earliest = slices.MinFunc([]time.Time{earliest, since}, time.Time.Compare)
		}
	}
	today := hour.Truncate(day)
	for _, of := range daysAround(today, earliest.Truncate(day).Add(-daysBefore*day), today.Add(daysAfter*day)) {
		if len(g.wanted) == 0 {
			break
		}
		if err := g.searchDay(ctx, of, hour); err != nil {
			return nil, err
		}
	}
	return g.findings(), nil
}

const day = 24 * time.Hour

// daysAround are the days from first to last, those close to a day first.
func daysAround(middle, first, last time.Time) (days []time.Time) {
	for at := first; !at.After(last); at = at.Add(day) {
		days = append(days, at)
	}
	slices.SortStableFunc(days, func(a, b time.Time) int { return cmp.Compare(a.Sub(middle).Abs(), b.Sub(middle).Abs()) })
	return days
}

func (g *gaps) know(node string, sequence uint64) {
	if g.known[node] == nil {
		g.known[node] = make(map[uint64]bool)
	}
	g.known[node][sequence] = true
	delete(g.wanted[node], sequence)
	if len(g.wanted[node]) == 0 {
		delete(g.wanted, node)
	}
}

func (g *gaps) learn(count usage.Counts) {
	for _, s := range count.Sequences {
		g.know(count.Node, s.Sequence)
	}
}

// want notes the predecessors that are not known of a node's numbers.
func (g *gaps) want(count usage.Counts) {
	for _, s := range count.Sequences {
		first, err := strconv.ParseUint(s.Ledger, 10, 64)
		if err != nil || s.Sequence <= first || g.known[count.Node][s.Sequence-1] {
			continue
		}
		if g.wanted[count.Node] == nil {
			g.wanted[count.Node] = make(map[uint64]time.Time)
		}
		g.wanted[count.Node][s.Sequence-1] = time.UnixMicro(int64(first)).UTC() // it is named by when it began
	}
}

// searchDay reads a day's counts of the nodes of which a number is wanted, those close
// to the hour first.
func (g *gaps) searchDay(ctx context.Context, of, hour time.Time) error {
	type place struct {
		key, node string
		away      time.Duration
	}
	var places []place
	err := g.bucket.List(ctx, countsDay(of), func(o store.Object) error {
		if node, at, ours := usage.ParseCountsKey(o.Key); ours && g.wanted[node] != nil {
			places = append(places, place{o.Key, node, at.Sub(hour).Abs()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.away, b.away) })
	for _, p := range places {
		if g.wanted[p.node] == nil {
			continue
		}
		content, err := g.bucket.Read(ctx, p.key, longestCounts)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if count, err := usage.ParseCounts(content); err == nil && count.Node == p.node {
			g.learn(count)
		}
	}
	return nil
}

func countsDay(of time.Time) string { return of.UTC().Format("counts/dt=2006-01-02/") }

// findings are the numbers that were found nowhere; those in a row are one.
func (g *gaps) findings() (found []Finding) {
	for _, node := range slices.Sorted(maps.Keys(g.wanted)) {
		for _, last := range slices.Sorted(maps.Keys(g.wanted[node])) {
			from := uint64(g.wanted[node][last].UnixMicro()) // the ledger's first
			for number := range g.known[node] {
				if number < last && number >= from {
					from = number + 1
				}
			}
			what := "the node has used this number, and nothing speaks of it: records may be lost"
			if last > from {
				what = fmt.Sprintf("the node has used this number and the %d after it, and nothing speaks of them: records may be lost", last-from)
			}
			found = append(found, Finding{Node: node, Sequence: from, What: what})
		}
	}
	return found
}
