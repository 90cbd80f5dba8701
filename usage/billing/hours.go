package billing

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"lightcone/usage/store"
)

// hourLayout is an hour in reports and on the command line.
const hourLayout = "2006-01-02T15"

// ParseHour reads an hour, in UTC, such as 2026-11-03T14.
func ParseHour(text string) (time.Time, error) {
	hour, err := time.Parse(hourLayout, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("hour %q: want a date and an hour in UTC, such as 2026-11-03T14", text)
	}
	return hour, nil
}

// HourText is an hour as ParseHour reads it.
func HourText(hour time.Time) string { return hour.UTC().Format(hourLayout) }

// hourShape is the part of a key that says the hour, as the ledger writes it.
const hourShape = "dt=2006-01-02/hour=15/"

func hourFolder(hour time.Time) string { return hour.UTC().Format(hourShape) }

const monthLayout = "2006-01"

// ParseMonth reads a month, in UTC, such as 2026-11.
func ParseMonth(text string) (time.Time, error) {
	month, err := time.Parse(monthLayout, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("month %q: want a year and a month, such as 2026-11", text)
	}
	return month, nil
}

// MonthOf is the month that an hour is in, in UTC.
func MonthOf(hour time.Time) time.Time {
	return time.Date(hour.UTC().Year(), hour.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Span is some hours in a row, from the first to the last.
type Span struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// spansOf groups hours, which are in order.
func spansOf(hours []time.Time) []Span {
	spans := []Span{}
	for i, hour := range hours {
		if i == 0 || !hours[i-1].Add(time.Hour).Equal(hour) {
			spans = append(spans, Span{From: HourText(hour)})
		}
		spans[len(spans)-1].To = HourText(hour)
	}
	return spans
}

// HoursToBill are the hours of a month of which there are objects, or a bill.
func (r Region) HoursToBill(ctx context.Context, month time.Time) ([]time.Time, error) {
	found := make(map[time.Time]bool)
	for _, prefix := range []string{usagePrefix, billsPrefix} {
		if err := hoursBelow(ctx, r.Bucket, prefix, "dt="+month.Format(monthLayout)+"-", found); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Keys(found), time.Time.Compare), nil
}

// HoursWithUsage are the hours that began before the given time and of which there
// are objects of records.
func HoursWithUsage(ctx context.Context, bucket *store.Bucket, before time.Time) ([]time.Time, error) {
	found := make(map[time.Time]bool)
	if err := hoursBelow(ctx, bucket, usagePrefix, "", found); err != nil {
		return nil, err
	}
	maps.DeleteFunc(found, func(hour time.Time, _ bool) bool { return !hour.Before(before) })
	return slices.SortedFunc(maps.Keys(found), time.Time.Compare), nil
}

const (
	usagePrefix = "usage/"
	billsPrefix = "bills/"
)

// hoursBelow collects the hours in the keys below a prefix, of those that go on with
// start.
func hoursBelow(ctx context.Context, bucket *store.Bucket, prefix, start string, found map[time.Time]bool) error {
	return bucket.List(ctx, prefix+start, func(o store.Object) error {
		rest := o.Key[len(prefix):]
		if len(rest) > len(hourShape) {
			if hour, err := time.Parse(hourShape, rest[:len(hourShape)]); err == nil {
				found[hour] = true
			}
		}
		return nil
	})
}
