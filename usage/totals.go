package usage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"lightcone"
)

// Sum is what the calls of a tenant to a function used, added up.
type Sum struct {
	Tenant   lightcone.TenantID     `json:"tenant"`
	Function lightcone.FunctionName `json:"function"`
	Calls    int64                  `json:"calls"`
	CPU      time.Duration          `json:"cpu_ns"`
	BytesIn  int64                  `json:"bytes_in"`
	BytesOut int64                  `json:"bytes_out"`
}

// Unshipped is a node's answer: what its records that the bucket may not have yet
// add up to, by tenant and function, and which segments those are. Whoever adds what
// the bucket has leaves those out there, so that none counts twice.
type Unshipped struct {
	Node      string   `json:"node"`
	Sequences []uint64 `json:"sequences"` // ascending
	Sums      []Sum    `json:"sums"`      // by tenant, then function
}

// Period is a span of whole hours, UTC.
type Period struct{ From, To time.Time }

// HoursOf is the shortest Period that holds all from from to before to: usage is
// added up by the hour.
func HoursOf(from, to time.Time) Period {
	p := Period{From: HourOf(from), To: HourOf(to)}
	if p.To.Before(to) {
		p.To = p.To.Add(time.Hour)
	}
	return p
}

// holds says whether an hour (since 1970) is in the period.
func (p Period) holds(hour int64) bool {
	return hour >= hourNumber(p.From) && hour < hourNumber(p.To)
}

// sums adds up by tenant and function.
type sums map[[2]string]*Sum

// of is where calls of a tenant to a function are added. It makes no string for
// one that it has.
func (s sums) of(tenant, function string) *Sum {
	sum := s[[2]string{tenant, function}]
	if sum == nil {
		tenant, function = strings.Clone(tenant), strings.Clone(function)
		sum = &Sum{Tenant: lightcone.TenantID(tenant), Function: lightcone.FunctionName(function)}
		s[[2]string{tenant, function}] = sum
	}
	return sum
}

func (s *Sum) add(calls, cpu, in, out int64) {
	s.Calls += calls
	s.CPU += time.Duration(cpu)
	s.BytesIn += in
	s.BytesOut += out
}

// sorted are the sums by tenant, then function.
func (s sums) sorted() []Sum {
	sorted := make([]Sum, 0, len(s))
	for _, sum := range s {
		sorted = append(sorted, *sum)
	}
	slices.SortFunc(sorted, func(a, b Sum) int {
		if order := strings.Compare(string(a.Tenant), string(b.Tenant)); order != 0 {
			return order
		}
		return strings.Compare(string(a.Function), string(b.Function))
	})
	return sorted
}

// Totals adds up a tenant's records ("" = every tenant's) that started in the
// period and that the bucket may not have yet. It reads the segments, some 10 ms for
// each of 16 MiB, one question at a time, and holds one of them in memory.
func (l *Ledger) Totals(ctx context.Context, tenant lightcone.TenantID, period Period) (Unshipped, error) {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		return Unshipped{}, fmt.Errorf("usage: add up what is not shipped: %w", ctx.Err())
	}
	answer := Unshipped{Node: l.config.Node, Sequences: []uint64{}}
	found := make(sums)
	var data []byte
	for _, part := range l.unshipped() {
		if ctx.Err() != nil {
			return Unshipped{}, fmt.Errorf("usage: add up what is not shipped: %w", ctx.Err())
		}
		var err error
		if data, err = readSegment(segmentPath(l.config.Dir, part.sequence), part.bytes, data); errors.Is(err, os.ErrNotExist) {
			continue // shipped meanwhile: the bucket has it
		} else if err != nil {
			return Unshipped{}, fmt.Errorf("usage: add up what is not shipped: %w", err)
		}
		answer.Sequences = append(answer.Sequences, part.sequence)
		for s := newScanner(data, seedOf(l.config.Node, part.sequence)); s.scan(); {
			if b := s.body; period.holds(b.hour()) && (tenant == "" || string(b.tenant()) == string(tenant)) {
				found.ofBytes(b.tenant(), b.function()).add(1, b.number(32), b.number(40), b.number(48))
			}
		}
	}
	slices.Sort(answer.Sequences)
	answer.Sums = found.sorted()
	return answer, nil
}

// ofBytes is of, for names that lie in a segment.
func (s sums) ofBytes(tenant, function []byte) *Sum {
	if sum := s[[2]string{string(tenant), string(function)}]; sum != nil {
		return sum
	}
	return s.of(string(tenant), string(function))
}

// unshipped are the segments that the bucket may not have, and how much of each is
// written.
func (l *Ledger) unshipped() []sealedSegment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var parts []sealedSegment
	for _, s := range slices.Concat(l.sealed, l.aside) {
		parts = append(parts, *s)
	}
	for _, s := range append(slices.Clone(l.closing), l.active) {
		if s != nil && s.count > 0 {
			parts = append(parts, sealedSegment{sequence: s.sequence, bytes: int64(s.end)})
		}
	}
	return parts
}

// readSegment reads the first bytes of a segment's file, into a buffer that it may
// replace by a longer one. What is mapped elsewhere reads as it was written.
func readSegment(name string, bytes int64, into []byte) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return into, err
	}
	defer func() { _ = file.Close() }()
	into = slices.Grow(into[:0], int(bytes))[:bytes]
	_, err = io.ReadFull(file, into)
	return into, err
}

// Total is usage in a period, added up from the bucket and from nodes.
type Total struct {
	// Harvest is the part of the nodes that answered, 0 to 1 (Fox and Brewer, "Harvest,
	// Yield, and Scalable Tolerant Systems", HotOS 1999). Below 1, what the others have
	// not shipped is missing.
	Harvest float64
	Sums    []Sum // by tenant, then function
}

// Merge adds up what the bucket has and the answers of nodes, of which missing
// more have not answered. It depends on no order, and a node that is there twice counts
// once, with the answer that covers more. shipped must leave out what the answers cover (see Covered).
func Merge(shipped []Sum, answers []Unshipped, missing int) Total {
	best := make(map[string]Unshipped)
	for _, answer := range answers {
		if known, twice := best[answer.Node]; !twice || covers(answer, known) {
			best[answer.Node] = answer
		}
	}
	all := make(sums)
	add := func(parts []Sum) {
		for _, p := range parts {
			all.of(string(p.Tenant), string(p.Function)).add(p.Calls, int64(p.CPU), p.BytesIn, p.BytesOut)
		}
	}
	add(shipped)
	for _, node := range slices.Sorted(maps.Keys(best)) {
		add(best[node].Sums)
	}
	total := Total{Harvest: 1, Sums: all.sorted()}
	if nodes := len(best) + max(missing, 0); nodes > 0 {
		total.Harvest = float64(len(best)) / float64(nodes)
	}
	return total
}

// covers says which of two answers of one node to prefer: a total order, so that
// it does not matter which came first.
func covers(a, b Unshipped) bool {
	weigh := func(u Unshipped) (calls int64) {
		for _, s := range u.Sums {
			calls += s.Calls
		}
		return calls
	}
	if order := weigh(a) - weigh(b); order != 0 {
		return order > 0
	}
	if order := slices.Compare(a.Sequences, b.Sequences); order != 0 {
		return order > 0
	}
	return fmt.Sprint(a.Sums) > fmt.Sprint(b.Sums)
}

// Covered are the segments, by node, that the answers speak of.
func Covered(answers []Unshipped) map[string][]uint64 {
	covered := make(map[string][]uint64)
	for _, answer := range answers {
		covered[answer.Node] = append(covered[answer.Node], answer.Sequences...)
	}
	return covered
}
