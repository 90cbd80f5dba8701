package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"lightcone/usage"
	"lightcone/usage/store"
)

// Late is what is to be done about records that have come after their hour was billed, or
// whose hour never was.
type Late struct {
	Hours    []time.Time    // to be billed (again), in order
	Archived []ArchivedHour // that cannot be, in order
	Months   []time.Time    // to be invoiced then: that of the hour, and the one before if its last revision is not of its bills
}

// ArchivedHour is an hour to which objects have come when others, which are billed, had
// been moved to the archive.
type ArchivedHour struct {
	Hour time.Time
	Came []string // keys that the bill does not name
}

// Unbilled counts the objects that came and have a ledger's name: they hold records that
// nobody pays for. The others are foreign.
func (a ArchivedHour) Unbilled() (objects int) {
	for _, key := range a.Came {
		if _, ours := usage.ParseObject(key); ours {
			objects++
		}
	}
	return objects
}

// Late looks for late records in the hours before the given one: those of its month, and, in
// the month's first days, while records of the last one may come, those of that. It
// compares what is listed with what a bill names, and reads no records: two requests for an
// hour, some hours at once. What it holds of an hour is a digest.
func (r Region) Late(ctx context.Context, before time.Time) (*Late, error) {
	month := MonthOf(before)
	from := month
	if before.Before(month.Add(daysRedriven * day)) {
		from = MonthOf(month.Add(-time.Hour))
	}
	hours := make([]lookedAt, before.Sub(from)/time.Hour)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(hoursAtOnce)
	for i := range hours {
		group.Go(func() (err error) {
			hours[i], err = r.lookAt(groupCtx, from.Add(time.Duration(i)*time.Hour))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("look for late records: %w", err)
	}
	late := &Late{Months: []time.Time{month}}
	for _, hour := range hours {
		switch {
		case hour.late:
			late.Hours = append(late.Hours, hour.start)
		case len(hour.came) > 0:
			late.Archived = append(late.Archived, ArchivedHour{Hour: hour.start, Came: hour.came})
		}
	}
	if from.Equal(month) {
		return late, nil
	}
	behind, err := r.behind(ctx, from, hours)
	if err != nil {
		return nil, fmt.Errorf("look for late records: %w", err)
	}
	if behind {
		late.Months = append(late.Months, from)
	}
	return late, nil
}

// hoursAtOnce are looked at: a month has 720, each of two round trips.
const hoursAtOnce = 16

// lookedAt is what has been seen of an hour.
type lookedAt struct {
	start time.Time
	table string   // of its bill, "" if there is none
	late  bool     // it is to be billed (again)
	came  []string // since its bill, if that cannot be made again
}

// lookAt lists an hour's objects first: what comes later is found by the next look.
func (r Region) lookAt(ctx context.Context, start time.Time) (lookedAt, error) {
	seen := lookedAt{start: start}
	keys, err := keysOf(ctx, r.Bucket, start)
	if err != nil {
		return seen, err
	}
	bill, err := ReadBill(ctx, r.Bucket, start)
	switch {
	case errors.Is(err, store.ErrNotFound):
		seen.late = len(keys) > 0
		return seen, nil
	case errors.Is(err, errBillAgain):
		seen.late = true
		return seen, nil
	case err != nil:
		return seen, err
	}
	seen.table = bill.Table
	known := bill.keys()
	gone := slices.ContainsFunc(bill.Objects, func(o BilledObject) bool {
		_, listed := slices.BinarySearch(keys, o.Key)
		return !listed
	})
	if !gone {
		seen.late = !slices.Equal(known, keys)
		return seen, nil
	}
	seen.came = slices.DeleteFunc(keys, func(key string) bool {
		_, billed := slices.BinarySearch(known, key)
		return billed
	})
	return seen, nil
}

// behind says whether a month's last revision is of other bills than there are, or will be.
func (r Region) behind(ctx context.Context, month time.Time, hours []lookedAt) (bool, error) {
	var billed []BilledHour
	for _, hour := range hours {
		if !MonthOf(hour.start).Equal(month) {
			continue
		}
		if hour.late {
			return true, nil
		}
		if hour.table != "" {
			billed = append(billed, BilledHour{Hour: HourText(hour.start), Table: hour.table})
		}
	}
	last, err := LastRevision(ctx, r.Bucket, month)
	return err == nil && !slices.Equal(last.Hours, billed), err
}
