package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"lightcone"
	"lightcone/usage/store"
)

// longestTable bounds what is read back of bills and invoices, in bytes.
const longestTable = 1 << 30

// Region is where a region's usage and bills are kept, and what folds for it.
type Region struct {
	Bucket  *store.Bucket
	Folder  Folder
	Scratch string // a folder for copies of an hour's records, which are gone afterwards
}

func billFolder(hour time.Time) string { return billsPrefix + hourFolder(hour) }

// BillHour bills an hour anew: map and reduce in one, with all calls in one share.
// It writes bill.json, bill.parquet and bill.csv to bills/dt=…/hour=…/, the report
// last; the same records make the same bytes. Objects that were set aside are in the
// report, and are no error.
func (r Region) BillHour(ctx context.Context, hour time.Time) (Bill, error) {
	return r.reduceHour(ctx, hour, 1, nil)
}

// EstimateHour adds up an hour's records without looking for copies of calls, and
// writes nothing: the most that a bill can come to, in a third of the time. It also says
// which objects a bill would set aside.
func (r Region) EstimateHour(ctx context.Context, hour time.Time) (most Quantities, refused []Refused, err error) {
	found, done, err := r.gather(ctx, hour)
	if err != nil {
		return Quantities{}, nil, err
	}
	defer done()
	rows, err := r.Folder.Sum(ctx, filesOf(found.sources))
	if err != nil {
		return Quantities{}, nil, fmt.Errorf("hour %s: %w", HourText(hour), err)
	}
	for _, row := range rows {
		if err := most.add(row.quantities()); err != nil {
			return Quantities{}, nil, fmt.Errorf("hour %s: %w", HourText(hour), err)
		}
	}
	return most, found.refused, nil
}

// MapShare maps one share of an hour, for a Reduce with the same run. A run is one
// launch of the batch: its mappers and its reducer know each other by it.
func (r Region) MapShare(ctx context.Context, hour time.Time, run string, share Share) (*Partial, error) {
	if err := errors.Join(share.validate(), validateRun(run)); err != nil {
		return nil, err
	}
	found, done, err := r.gather(ctx, hour)
	if err != nil {
		return nil, err
	}
	defer done()
	partial, err := found.fold(ctx, r.Folder, share)
	if err != nil {
		return nil, fmt.Errorf("hour %s, share %v: %w", HourText(hour), share, err)
	}
	content, err := json.Marshal(partial)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return partial, r.Bucket.Write(ctx, partialKey(hour, run, share), content)
}

// ReduceHour makes the bill of an hour from the partials of a run. A share whose
// partial is missing, or is of other objects than there are now, it maps by itself:
// so a mapper that was lost costs time and no money.
func (r Region) ReduceHour(ctx context.Context, hour time.Time, run string, shares int) (Bill, error) {
	if err := errors.Join(Share{Of: shares}.validate(), validateRun(run)); err != nil {
		return Bill{}, err
	}
	partials := make(map[Share]*Partial)
	for index := range shares {
		share := Share{Index: index, Of: shares}
		content, err := r.Bucket.Read(ctx, partialKey(hour, run, share), longestTable)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return Bill{}, err
		}
		partial := new(Partial)
		if json.Unmarshal(content, partial) == nil && partial.Share == share {
			partials[share] = partial
		}
	}
	bill, err := r.reduceHour(ctx, hour, shares, partials)
	if err != nil {
		return Bill{}, err
	}
	for index := range shares {
		if err := r.Bucket.Delete(ctx, partialKey(hour, run, Share{Index: index, Of: shares})); err != nil {
			return Bill{}, err
		}
	}
	return bill, nil
}

// Mapped says how many of a run's shares have been mapped.
func (r Region) Mapped(ctx context.Context, hour time.Time, run string, shares int) (mapped int, err error) {
	err = r.Bucket.List(ctx, runFolder(hour, run), func(o store.Object) error {
		if strings.HasSuffix(o.Key, fmt.Sprintf("-of-%d.json", shares)) {
			mapped++
		}
		return nil
	})
	return mapped, err
}

func runFolder(hour time.Time, run string) string { return billFolder(hour) + "run=" + run + "/" }

func partialKey(hour time.Time, run string, share Share) string {
	return fmt.Sprintf("%sshare-%d-of-%d.json", runFolder(hour, run), share.Index, share.Of)
}

// validateRun allows what Nomad makes of a periodic job's name.
func validateRun(run string) error {
	allowed := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c)
	}
	if run == "" || len(run) > 200 || strings.Trim(run, ".") == "" || strings.ContainsFunc(run, func(c rune) bool { return !allowed(c) }) {
		return fmt.Errorf("run %q: want 1 to 200 letters, digits, hyphens, underscores and dots", run)
	}
	return nil
}

// gather copies the hour's objects to a folder of their own, which done removes.
func (r Region) gather(ctx context.Context, hour time.Time) (found *copies, done func(), err error) {
	folder, err := os.MkdirTemp(r.Scratch, "lightcone-billing-*")
	if err != nil {
		return nil, nil, fmt.Errorf("make a scratch folder: %w", err)
	}
	done = func() { _ = os.RemoveAll(folder) }
	if strings.ContainsAny(folder, "*?[]{}") {
		done()
		return nil, nil, fmt.Errorf("the scratch folder %q has one of *?[]{} in its name, which DuckDB would expand: name another", folder)
	}
	if found, err = gather(ctx, r.Bucket, hour, folder); err != nil {
		done()
		return nil, nil, err
	}
	return found, done, nil
}

// reduceHour makes and writes the bill. It uses partials that are of exactly the
// objects there are, and maps the other shares.
func (r Region) reduceHour(ctx context.Context, hour time.Time, shares int, partials map[Share]*Partial) (Bill, error) {
	keys, err := keysOf(ctx, r.Bucket, hour)
	if err != nil {
		return Bill{}, err
	}
	if err := r.nothingMissing(ctx, hour, keys); err != nil {
		return Bill{}, err
	}
	all := make([]*Partial, 0, shares)
	if current(partials, keys, shares) {
		for _, partial := range partials {
			all = append(all, partial)
		}
	} else if all, err = r.mapAgain(ctx, hour, shares, partials); err != nil {
		return Bill{}, fmt.Errorf("hour %s: %w", HourText(hour), err)
	}
	bill, rows, err := reduce(all)
	if err != nil {
		return Bill{}, err
	}
	return bill, r.writeBill(ctx, hour, &bill, rows)
}

// current says whether the partials are of all shares, and all of these objects.
func current(partials map[Share]*Partial, keys []string, shares int) bool {
	var first *Partial
	for _, partial := range partials {
		if first == nil {
			first = partial
		}
		if !partial.sameObjects(first) {
			return false
		}
	}
	return len(partials) == shares && first != nil && slices.Equal(first.keys(), keys)
}

// keys are those of all objects that the partial knows of, sorted.
func (p *Partial) keys() []string { return keysIn(p.Objects, p.Refused) }

// keys are those of all objects that the bill names, sorted.
func (b *Bill) keys() []string { return keysIn(b.Objects, b.Refused) }

func keysIn(objects []BilledObject, refused []Refused) []string {
	keys := make([]string, 0, len(objects)+len(refused))
	for _, object := range objects {
		keys = append(keys, object.Key)
	}
	for _, r := range refused {
		keys = append(keys, r.Key)
	}
	slices.Sort(keys)
	return keys
}

// mapAgain maps the shares of which there is no partial, or one of other objects. An
// object that any share refuses is refused by all.
func (r Region) mapAgain(ctx context.Context, hour time.Time, shares int, partials map[Share]*Partial) ([]*Partial, error) {
	found, done, err := r.gather(ctx, hour)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, partial := range partials {
		found.refuse(partial.Refused)
	}
	all := make([]*Partial, shares)
	for index := 0; index < shares; index++ {
		share := Share{Index: index, Of: shares}
		reference := found.partial(share, Folded{Billed: make([]int64, len(found.sources))})
		if all[index] != nil && all[index].sameObjects(reference) {
			continue
		}
		if mapped := partials[share]; mapped != nil && mapped.sameObjects(reference) {
			all[index] = mapped
			continue
		}
		refused := len(found.refused)
		if all[index], err = found.fold(ctx, r.Folder, share); err != nil {
			return nil, err
		}
		if len(found.refused) > refused {
			index = -1 // shares before this one have counted what is now refused
		}
	}
	return all, nil
}

// nothingMissing refuses to bill an hour of which objects that were billed are gone:
// what they hold would be credited.
func (r Region) nothingMissing(ctx context.Context, hour time.Time, keys []string) error {
	previous, err := ReadBill(ctx, r.Bucket, hour)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, object := range previous.Objects {
		if _, there := slices.BinarySearch(keys, object.Key); !there {
			return fmt.Errorf("hour %s: %q, which was billed, is no longer in %s: bring it back with `lightcone archive restore --hour %s`",
				HourText(hour), object.Key, r.Bucket, HourText(hour))
		}
	}
	return nil
}

func (r Region) writeBill(ctx context.Context, hour time.Time, bill *Bill, rows []Row) error {
	table, err := encodeTable(rows)
	if err != nil {
		return err
	}
	text, err := encodeRows(rows)
	if err != nil {
		return err
	}
	bill.Table = lightcone.DigestOf(table).String()
	report, err := encodeDocument(bill)
	if err != nil {
		return err
	}
	folder := billFolder(hour)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"bill.csv", text}, {"bill.parquet", table}, {"bill.json", report}} {
		if err := r.Bucket.Write(ctx, folder+file.name, file.content); err != nil {
			return err
		}
	}
	return nil
}

// ReadBill reads the report on an hour; its error is store.ErrNotFound if the hour
// was not billed.
func ReadBill(ctx context.Context, bucket *store.Bucket, hour time.Time) (*Bill, error) {
	content, err := bucket.Read(ctx, billFolder(hour)+"bill.json", longestTable)
	if err != nil {
		return nil, err
	}
	bill := new(Bill)
	if err := json.Unmarshal(content, bill); err != nil {
		return nil, fmt.Errorf("the bill of hour %s: %w: %w", HourText(hour), err, errBillAgain)
	}
	return bill, nil
}

// errBillAgain is in the error about a bill that cannot be used as it is.
var errBillAgain = errors.New("bill the hour again")

// readRows reads the rows of a bill.
func readRows(ctx context.Context, bucket *store.Bucket, hour time.Time, bill *Bill) ([]Row, error) {
	table, err := bucket.Read(ctx, billFolder(hour)+"bill.parquet", longestTable)
	if err != nil {
		return nil, err
	}
	if digest := lightcone.DigestOf(table).String(); digest != bill.Table {
		return nil, fmt.Errorf("the bill of hour %s: its table has the digest %s, the report says %s: %w", HourText(hour), digest, bill.Table, errBillAgain)
	}
	return decodeTable[Row](table)
}
