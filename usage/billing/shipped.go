package billing

import (
	"context"
	"errors"
	"slices"
	"time"

	"lightcone"
	"lightcone/usage"
	"lightcone/usage/store"
)

// ofBucket tells of a bucket's bills.
type ofBucket struct{ bucket *store.Bucket }

// OfBucket tells what the hours in a bucket came to that were billed, so that whoever
// adds up usage need not read their records again.
func OfBucket(bucket *store.Bucket) usage.Bills { return ofBucket{bucket} }

// Billed is usage.Bills'. A bill that had to set an object of the ledger's aside tells
// nothing: it may have been replaced since. Nor does one that is being written anew.
func (b ofBucket) Billed(ctx context.Context, tenant lightcone.TenantID, hour time.Time) (billed usage.Billed, ok bool, err error) {
	bill, rows, err := readBilled(ctx, b.bucket, hour)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errBillAgain) {
		return usage.Billed{}, false, nil
	}
	if err != nil {
		return usage.Billed{}, false, err
	}
	for _, refused := range bill.Refused {
		if _, ours := usage.ParseObject(refused.Key); ours {
			return usage.Billed{}, false, nil
		}
	}
	for _, object := range bill.Objects {
		billed.Objects = append(billed.Objects, object.Key)
	}
	slices.Sort(billed.Objects)
	for _, row := range rows {
		if tenant != "" && row.Tenant != string(tenant) {
			continue
		}
		billed.Sums = append(billed.Sums, usage.Sum{
			Tenant: lightcone.TenantID(row.Tenant), Function: lightcone.FunctionName(row.Function),
			Calls: row.Calls, CPU: time.Duration(row.CPU), BytesIn: row.BytesIn, BytesOut: row.BytesOut,
		})
	}
	return billed, true, nil
}

func readBilled(ctx context.Context, bucket *store.Bucket, hour time.Time) (*Bill, []Row, error) {
	bill, err := ReadBill(ctx, bucket, hour)
	if err != nil {
		return nil, nil, err
	}
	rows, err := readRows(ctx, bucket, hour, bill)
	return bill, rows, err
}
