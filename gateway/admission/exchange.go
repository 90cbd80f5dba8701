package admission

import (
	"context"
	"fmt"
	"time"

	"lightcone"
)

// Region is what the gateways of a region share of their tenants' usage.
type Region interface {
	// Exchange adds what this gateway has seen in a month (UTC, such as 2026-11) to
	// the region's totals, and answers those of the tenants in spent, after the
	// addition. A tenant that is in spent with nothing is only asked about. Beside
	// an error, the tenants that have a total have been added; nobody knows about the
	// others.
	Exchange(ctx context.Context, month string, spent map[lightcone.TenantID]lightcone.Usage) (totals map[lightcone.TenantID]lightcone.Usage, err error)
}

// batch is what the region is told at once.
type batch struct {
	month  month
	spent  map[lightcone.TenantID]lightcone.Usage
	before map[lightcone.TenantID]lightcone.Usage // the region's totals before it was told, as far as is known
}

func newBatch(m month) *batch {
	return &batch{m, make(map[lightcone.TenantID]lightcone.Usage), make(map[lightcone.TenantID]lightcone.Usage)}
}

// exchange is the state of a Follower between its rounds.
//
// An exchange that failed is in doubt: the region may have added it and only the
// answer was lost. So the next round only asks, and compares with what the totals
// were before: a tenant's part that the total has grown by is taken as added,
// otherwise it is sent again. Nothing is lost or counted twice, with one exception:
// when other gateways added as much for the same tenant within that one round, a part
// that was lost is taken as added. So the error is in the tenant's favour, and never
// more than what was in doubt.
type exchange struct {
	table    *Table
	region   Region
	deadline time.Duration // of each call of the region
	most     int           // tenants in one batch
	doubt    *batch        // nil = none
}

// round tells the region what it has not heard of, and learns its totals. After an
// error, the rest waits for the next round.
func (e *exchange) round(ctx context.Context) error {
	if e.doubt != nil {
		totals, err := e.ask(ctx, e.doubt.month, e.doubt.spent)
		if err != nil {
			return fmt.Errorf("ask what became of an exchange for %d tenants: %w", len(e.doubt.spent), err)
		}
		e.table.resolve(e.doubt, totals)
		e.doubt = nil
	}
	batches := e.table.collect(e.most)
	for i, b := range batches {
		tenants := len(b.spent)
		if err := e.send(ctx, b); err != nil {
			if e.doubt != nil {
				e.table.remind(e.doubt)
			}
			e.table.remind(batches[i:]...)
			return fmt.Errorf("exchange the usage of %d tenants in %s: %w", tenants, b.month, err)
		}
	}
	return nil
}

// send tells the region about a batch, after asking about those tenants of it of
// whom nobody knows what the region knows.
func (e *exchange) send(ctx context.Context, b *batch) error {
	unknown := make(map[lightcone.TenantID]lightcone.Usage)
	for id, spent := range b.spent {
		if _, known := b.before[id]; !known && spent != (lightcone.Usage{}) {
			unknown[id] = lightcone.Usage{}
		}
	}
	if len(unknown) > 0 {
		totals, err := e.ask(ctx, b.month, unknown)
		if err != nil {
			return err
		}
		for id := range unknown {
			b.before[id] = totals[id]
		}
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	totals, err := e.region.Exchange(ctx, b.month.String(), b.spent)
	if err != nil {
		e.doubt = b.takeDoubtful(totals)
	}
	e.table.apply(b, totals)
	return err
}

// takeDoubtful takes the tenants without a total out of the batch; nil if there is none.
func (b *batch) takeDoubtful(totals map[lightcone.TenantID]lightcone.Usage) *batch {
	doubt := newBatch(b.month)
	for id, spent := range b.spent {
		if _, added := totals[id]; !added {
			doubt.spent[id], doubt.before[id] = spent, b.before[id]
			delete(b.spent, id)
		}
	}
	if len(doubt.spent) == 0 {
		return nil
	}
	return doubt
}

// ask asks for the totals of tenants.
func (e *exchange) ask(ctx context.Context, m month, tenants map[lightcone.TenantID]lightcone.Usage) (map[lightcone.TenantID]lightcone.Usage, error) {
	nothing := make(map[lightcone.TenantID]lightcone.Usage, len(tenants))
	for id := range tenants {
		nothing[id] = lightcone.Usage{}
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	return e.region.Exchange(ctx, m.String(), nothing)
}

// collect is what the region should be told, in batches of at most so many
// tenants: those that used something, and those with a quota for the month that
// have been heard of.
func (t *Table) collect(most int) []*batch {
	var all []*batch
	open := make(map[month]*batch)
	batchFor := func(m month) *batch {
		if b := open[m]; b != nil && len(b.spent) < most {
			return b
		}
		open[m] = newBatch(m)
		all = append(all, open[m])
		return open[m]
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for id, found := range s.tenants {
			if found.month.own == (lightcone.Usage{}) && !(found.limited && found.called) {
				continue
			}
			found.called = false
			b := batchFor(found.month.month)
			b.spent[id] = found.month.own
			if found.month.learned {
				b.before[id] = found.month.answered()
			}
		}
		s.mu.Unlock()
	}
	t.lateMu.Lock()
	defer t.lateMu.Unlock()
	for m, tenants := range t.late {
		for id, own := range tenants {
			batchFor(m).spent[id] = own
		}
	}
	return all
}

// remind has tenants whose exchange failed be asked about again.
func (t *Table) remind(batches ...*batch) {
	for _, b := range batches {
		for id := range b.spent {
			t.with(id, func(found *tenant) { found.called = true })
		}
	}
}

// apply notes that the region has added a batch, and what it knows now.
func (t *Table) apply(b *batch, totals map[lightcone.TenantID]lightcone.Usage) {
	for id, spent := range b.spent {
		t.note(b.month, id, spent, totals)
	}
}

// resolve finds out, from the totals that the region has, what it has added of a
// batch whose answer was lost.
func (t *Table) resolve(b *batch, totals map[lightcone.TenantID]lightcone.Usage) {
	for id, spent := range b.spent {
		before := b.before[id]
		if grown := totals[id]; grown.CPU-before.CPU < spent.CPU || bytesOf(grown)-bytesOf(before) < bytesOf(spent) {
			spent = lightcone.Usage{}
		}
		t.note(b.month, id, spent, totals)
	}
}

// note takes what the region has added of a tenant's usage off what it has to be
// told, and keeps its total.
func (t *Table) note(m month, id lightcone.TenantID, added lightcone.Usage, totals map[lightcone.TenantID]lightcone.Usage) {
	total, answered := totals[id]
	noted := false
	t.with(id, func(found *tenant) {
		if found.month.month != m {
			return
		}
		noted = true
		found.month.own = less(found.month.own, added)
		if answered {
			found.month.learn(total, added)
		}
	})
	if noted {
		return
	}
	t.lateMu.Lock()
	defer t.lateMu.Unlock()
	if late, found := t.late[m][id]; found {
		t.settleLate(m, id, less(late, added))
	}
}

// with does something with a tenant, if it is remembered.
func (t *Table) with(id lightcone.TenantID, do func(*tenant)) {
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.tenants[id]; found != nil {
		do(found)
	}
}
