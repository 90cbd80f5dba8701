package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"lightcone"
	"lightcone/usage"
	"lightcone/usage/billing"
)

const (
	// storedBound is within what everything is in the bucket once all is well: a
	// segment is sealed after a minute, and a ledger whose process does not come back is
	// adopted a minute or two after that.
	storedBound = 5 * time.Minute
	// billedBound is within what an hour is billed: four allocations that start.
	billedBound = 2 * time.Minute
)

// loseUsage has the store stand still, so that all records wait on the racks' disks,
// and then takes a gateway and a rack away.
func (d *drills) loseUsage(ctx context.Context) error {
	stores, err := d.running(ctx, "store")
	if err != nil {
		return err
	}
	if err := d.nomad.Signal(ctx, stores[0].ID, "versitygw", "SIGSTOP"); err != nil {
		return err
	}
	began := time.Now()
	if answers(ctx, storeURL+"/health") {
		err = errors.New("the store answers though it stands still")
	}
	if err == nil {
		err = d.killGateway(ctx)
	}
	if err == nil {
		err = d.cutRack(ctx)
	}
	d.note("the store stood still for %.0f s", time.Since(began).Seconds())
	// Also when the drill is over: nothing else would ever wake it.
	awake, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, d.nomad.Signal(awake, stores[0].ID, "versitygw", "SIGCONT"))
}

// judgeUsage waits until each call that was answered is in the bucket, has their hours
// billed by Nomad, and compares.
func (d *drills) judgeUsage(ctx context.Context, seen *tally) error {
	began := time.Now()
	var stored map[string][]stored
	missing, failed := len(seen.cpu), error(nil)
	if err := waitUntil(ctx, storedBound, func() bool {
		if stored, failed = d.stored(); failed != nil {
			return false
		}
		missing = 0
		for id := range seen.cpu {
			if len(stored[id]) == 0 {
				missing++
			}
		}
		return missing == 0
	}); err != nil {
		return fmt.Errorf("of %d calls that were answered, %d are not in the bucket: %w", len(seen.cpu), missing, errors.Join(failed, err))
	}
	d.note("all %d calls that were answered were in the bucket %.0f s after the last", len(seen.cpu), time.Since(began).Seconds())
	hours := make(map[time.Time]bool)
	doubled, off := 0, 0
	for id, told := range seen.cpu {
		records := stored[id]
		if len(records) > 1 {
			doubled++
		}
		// Server-Timing has three digits behind the point.
		if strconv.FormatFloat(records[0].cpu.Seconds()*1000, 'f', 3, 64) != strconv.FormatFloat(told, 'f', 3, 64) {
			off++
		}
		hours[records[0].hour] = true
	}
	if doubled+off > 0 {
		return fmt.Errorf("of %d calls that were answered, %d are stored more than once, and %d with another CPU time than was told", len(seen.cpu), doubled, off)
	}
	for hour := range hours {
		if err := d.bill(ctx, hour, seen); err != nil {
			return fmt.Errorf("hour %s: %w", billing.HourText(hour), err)
		}
	}
	return nil
}

// stored is a record in the bucket.
type stored struct {
	object string // its key
	hour   time.Time
	cpu    time.Duration
}

// stored reads every record of the bucket, by the call's id. The store keeps objects as
// files, and writes each whole.
func (d *drills) stored() (map[string][]stored, error) {
	all := make(map[string][]stored)
	root := d.bucketFolder()
	err := filepath.WalkDir(filepath.Join(root, "usage"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		key, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		object, ok := usage.ParseObject(key)
		if !ok {
			return fmt.Errorf("%s is no object of usage records", key)
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return usage.Decode(content, object, func(r *usage.Row) error {
			id := lightcone.CallID(r.Call).String()
			all[id] = append(all[id], stored{key, object.Hour, time.Duration(r.CPU)})
			return nil
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // nothing yet
	}
	return all, err
}

// bill has Nomad bill an hour, and compares the bill with the records that it says it
// is of: each call of this drill is in one of them.
func (d *drills) bill(ctx context.Context, hour time.Time, seen *tally) error {
	began := time.Now()
	run, err := d.nomad.Dispatch(ctx, "billing-hour", map[string]string{"hour": billing.HourText(hour)})
	if err != nil {
		return err
	}
	var left []string
	err = waitUntil(ctx, billedBound, func() bool {
		allocations, err := d.nomad.Allocations(ctx, run)
		left = nil
		for _, allocation := range allocations {
			if allocation.Status != "complete" {
				left = append(left, allocation.ID+" is "+allocation.Status)
			}
		}
		return err == nil && len(allocations) > 0 && left == nil
	})
	if err != nil {
		return fmt.Errorf("job %s has not ended: %v: %w", run, left, err)
	}
	text, err := os.ReadFile(filepath.Join(d.bucketFolder(), hour.Format("bills/dt=2006-01-02/hour=15/bill.json")))
	if err != nil {
		return err
	}
	var bill billing.Bill
	if err := json.Unmarshal(text, &bill); err != nil {
		return err
	}
	all, err := d.stored() // now: more has come while it was billed
	if err != nil {
		return err
	}
	billed := make(map[string]bool)
	for _, object := range bill.Objects {
		billed[object.Key] = true
	}
	calls, ours, want, cpu := int64(0), 0, 0, time.Duration(0)
	for id, records := range all {
		if !records[0].hour.Equal(hour) { // all of a call's records are of one hour
			continue
		}
		_, answered := seen.cpu[id]
		if answered {
			want++
		}
		if i := slices.IndexFunc(records, func(r stored) bool { return billed[r.object] }); i >= 0 {
			calls++
			cpu += records[i].cpu
			if answered {
				ours++
			}
		}
	}
	d.note("hour %s: billed by Nomad in %.0f s: %d calls, %d of them this drill's, %.3f s of CPU", bill.Hour, time.Since(began).Seconds(), bill.Totals.Calls, ours, cpu.Seconds())
	if len(bill.Refused) > 0 || bill.Totals.Calls != calls || bill.Totals.CPU != int64(cpu) || ours != want {
		return fmt.Errorf("the bill is of %d calls and %d ns, its records of %d calls and %d ns; %d of the drill's %d are in it; set aside: %v",
			bill.Totals.Calls, bill.Totals.CPU, calls, cpu, ours, want, bill.Refused)
	}
	return nil
}
