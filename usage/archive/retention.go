package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"lightcone/usage"
	"lightcone/usage/store"
)

// retention is the document that says how long the archive keeps records.
type retention struct {
	KeepDays int `json:"keep_days"` // from the end of the records' hour
}

const (
	retentionKey  = coldPrefix + "retention.json"
	day           = 24 * time.Hour
	mostKeepDays  = 36500
	longestPolicy = 4 << 10
)

// KeepDays is how many days records are kept at least, from the end of their hour;
// 0 if it has not been said.
func (a Archive) KeepDays(ctx context.Context) (int, error) {
	content, err := a.Cold.Read(ctx, retentionKey, longestPolicy)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var kept retention
	if err := json.Unmarshal(content, &kept); err != nil || kept.KeepDays < 1 {
		return 0, fmt.Errorf("%q in %s: want {\"keep_days\": N}, N at least 1: %w", retentionKey, a.Cold, err)
	}
	return kept.KeepDays, nil
}

// Retain says how many days records are kept. A time that has been promised is not
// taken back: it can be lengthened only.
func (a Archive) Retain(ctx context.Context, days int) error {
	if days < 1 || days > mostKeepDays {
		return fmt.Errorf("keep records for %d days: want 1 to %d", days, mostKeepDays)
	}
	kept, err := a.KeepDays(ctx)
	if err != nil {
		return err
	}
	if days < kept {
		return fmt.Errorf("records are kept for %d days; that cannot be shortened to %d", kept, days)
	}
	content, err := json.Marshal(retention{KeepDays: days})
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return a.Cold.Write(ctx, retentionKey, append(content, '\n'))
}

// Expire deletes the records of all hours that ended before the given time, and
// writes so in the chain first. It refuses to delete any that have to be kept.
func (a Archive) Expire(ctx context.Context, before, now time.Time) (deleted int, err error) {
	days, err := a.KeepDays(ctx)
	if err != nil {
		return 0, err
	}
	if days == 0 {
		return 0, errors.New("nobody has said how long records are kept: nothing is deleted before `lightcone archive retain --days N`")
	}
	if earliest := now.Add(-time.Duration(days) * day); before.After(earliest) {
		return 0, fmt.Errorf("records are kept for %d days: those since %s cannot be deleted yet, and you asked for all before %s",
			days, earliest.UTC().Format(time.RFC3339), before.UTC().Format(time.RFC3339))
	}
	if err := a.finishLast(ctx); err != nil {
		return 0, err
	}
	held, err := a.Objects(ctx)
	if err != nil {
		return 0, err
	}
	var objects []Object
	for _, key := range slices.Sorted(maps.Keys(held)) {
		if name, _ := usage.ParseObject(key); !name.Hour.Add(time.Hour).After(before) {
			objects = append(objects, held[key])
		}
	}
	if len(objects) == 0 {
		return 0, nil
	}
	manifest, err := a.append(ctx, expired, objects, now)
	if err != nil {
		return 0, err
	}
	return len(objects), a.finish(ctx, manifest)
}
