package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"lightcone/usage"
	"lightcone/usage/store"
)

// longestObject bounds what is read of counts, bills and invoices, in bytes.
const longestObject = 32 << 20

// hoursOf are the hours from one time to another, those of both included.
func hoursOf(from, to time.Time) (hours []time.Time) {
	for hour := usage.HourOf(from); !hour.After(to); hour = hour.Add(time.Hour) {
		hours = append(hours, hour)
	}
	return hours
}

// readRecords reads every record of the hours, object by object, each of which is
// checked whole.
func readRecords(ctx context.Context, b *store.Bucket, hours []time.Time) (records []record, objects int, err error) {
	for _, hour := range hours {
		var found []usage.Object
		err := b.List(ctx, usage.HourPrefix(hour), func(listed store.Object) error {
			object, ours := usage.ParseObject(listed.Key)
			if !ours {
				return fmt.Errorf("%s is no object of records", listed.Key)
			}
			found = append(found, object)
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
		for _, object := range found {
			content, err := b.Read(ctx, object.Key(), store.LongestObject)
			if err != nil {
				return nil, 0, err
			}
			err = usage.Decode(content, object, func(row *usage.Row) error {
				if row.Tenant != tenant || row.Function != function {
					return fmt.Errorf("call %x is of %s and %s", row.Call, row.Tenant, row.Function)
				}
				records = append(records, record{call: row.Call, used: spent{
					CPU: time.Duration(row.CPU), BytesIn: row.BytesIn, BytesOut: row.BytesOut,
				}})
				return nil
			})
			if err != nil {
				return nil, 0, err
			}
		}
		objects += len(found)
	}
	return records, objects, nil
}

// bill has the billing batch bill the hours, and reads what it wrote.
func (r *region) bill(ctx context.Context, b *store.Bucket, prices string, hours []time.Time) (billed, invoiced sums, err error) {
	months := make(map[string]bool)
	for _, hour := range hours {
		_, complaint, code, err := output(ctx, credentials(), path.Join(r.bin, "lightcone-billing"), "run", "--bucket", r.bucketAt(r.proxied),
			"--prices", prices, "--hour", hour.Format("2006-01-02T15"), "--scratch", r.dir, "--memory", "512")
		if err == nil && code != 0 {
			err = fmt.Errorf("lightcone-billing: exit code %d: %s", code, complaint)
		}
		if err != nil {
			return billed, invoiced, err
		}
		var of struct {
			Totals sums `json:"totals"`
		}
		if err := readJSON(ctx, b, hour.Format("bills/dt=2006-01-02/hour=15/")+"bill.json", &of); err != nil {
			return billed, invoiced, err
		}
		billed.add(of.Totals)
		months[hour.Format("2006-01")] = true
	}
	for month := range months {
		last := "" // revisions count up with their keys
		err := b.List(ctx, "invoices/month="+month+"/tenant="+tenant+"/", func(listed store.Object) error {
			last = listed.Key
			return nil
		})
		if err != nil {
			return billed, invoiced, err
		}
		var of struct {
			Use []sums `json:"use"`
		}
		if err := readJSON(ctx, b, last, &of); err != nil {
			return billed, invoiced, err
		}
		for _, use := range of.Use {
			invoiced.add(use)
		}
	}
	return billed, invoiced, nil
}

func readJSON(ctx context.Context, b *store.Bucket, key string, into any) error {
	content, err := b.Read(ctx, key, longestObject)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	return nil
}

// audited is what `lightcone audit usage` prints, added up.
type audited struct {
	answered, interrupted, recorded, stored, billed int64
	findings                                        []string
}

// audit has the reconciliation compare what was answered, stored and billed.
func (r *region) audit(ctx context.Context, hours []time.Time) (all audited, err error) {
	for _, hour := range hours {
		said, complaint, code, err := output(ctx, credentials(), r.lightcone(), "audit", "usage", "--bucket", r.bucketAt(r.proxied), "--hour", hour.Format("2006-01-02T15"))
		if err != nil {
			return all, err
		}
		before := len(all.findings)
		all.read(said)
		if found := len(all.findings) - before; (code != 0) != (found > 0) {
			all.findings = append(all.findings, fmt.Sprintf("exit code %d with %d differences: %s", code, found, complaint))
		}
	}
	return all, nil
}

// read adds the lines of one hour: a table with a head and a line a node, and then a
// line for each difference.
func (a *audited) read(said string) {
	for line := range strings.Lines(said) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "NODE" {
			continue
		}
		numbers := make([]int64, 0, 5)
		for _, field := range fields[1:] {
			if n, err := strconv.ParseInt(field, 10, 64); err == nil {
				numbers = append(numbers, n)
			}
		}
		if len(fields) != 6 || len(numbers) != 5 {
			a.findings = append(a.findings, strings.TrimSpace(line))
			continue
		}
		a.answered += numbers[0]
		a.interrupted += numbers[1]
		a.recorded += numbers[2]
		a.stored += numbers[3]
		a.billed += numbers[4]
	}
}
