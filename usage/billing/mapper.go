package billing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lightcone/usage"
	"lightcone/usage/store"
)

// copies are an hour's records in a folder of this machine: what has been inspected
// is what is folded.
type copies struct {
	hour    time.Time
	sources []source // by key
	refused []Refused
}

// source is an object that is whole.
type source struct {
	key  string
	rows int64
	file string
}

// keysOf lists what is below the hour's prefix.
func keysOf(ctx context.Context, bucket *store.Bucket, hour time.Time) ([]string, error) {
	var keys []string
	err := bucket.List(ctx, usage.HourPrefix(hour), func(o store.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	return keys, err
}

// gather copies an hour's objects into the scratch folder, and refuses those that
// are not whole. Its memory is two objects at a time.
func gather(ctx context.Context, bucket *store.Bucket, hour time.Time, scratch string) (*copies, error) {
	keys, err := keysOf(ctx, bucket, hour)
	if err != nil {
		return nil, err
	}
	sources, refusals := make([]source, len(keys)), make([]error, len(keys))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(2, runtime.GOMAXPROCS(0)))
	for i, key := range keys {
		group.Go(func() error {
			sources[i] = source{key: key, file: filepath.Join(scratch, fmt.Sprintf("%08d.parquet", i))}
			content, err := bucket.Read(groupCtx, key, store.LongestObject)
			if errors.Is(err, store.ErrTooLong) {
				refusals[i] = store.ErrTooLong
				return nil
			}
			if err != nil {
				return err
			}
			records, refusal := inspect(key, content)
			if refusal != nil {
				refusals[i] = refusal
				return nil
			}
			sources[i].rows = records.Rows
			if content, err = records.Parquet(); err == nil {
				err = os.WriteFile(sources[i].file, content, 0o600)
			}
			if err != nil {
				return fmt.Errorf("copy %q to the scratch folder: %w", key, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	found := &copies{hour: hour}
	for i, s := range sources {
		if refusals[i] != nil {
			found.refused = append(found.refused, Refused{Key: s.key, Reason: refusals[i].Error()})
		} else {
			found.sources = append(found.sources, s)
		}
	}
	return found, nil
}

// inspect says what is in an object, or why it is refused.
func inspect(key string, content []byte) (*store.Records, error) {
	name, ok := usage.ParseObject(key)
	if !ok {
		return nil, errors.New("a foreign file: its name is not one of the ledger's")
	}
	return store.Inspect(content, name.Node, name.Sequence)
}

// refuse sets aside those of the sources that are named.
func (c *copies) refuse(named []Refused) {
	for _, r := range named {
		at := slices.IndexFunc(c.sources, func(s source) bool { return s.key == r.Key })
		if at >= 0 {
			c.sources = slices.Delete(c.sources, at, at+1)
			c.refused = append(c.refused, r)
		}
	}
	slices.SortFunc(c.refused, compareRefused)
}

// fold makes a share's partial. What cannot be folded is set aside, and so is no
// longer in the copies either.
func (c *copies) fold(ctx context.Context, folder Folder, share Share) (*Partial, error) {
	for {
		folded, err := foldChecked(ctx, folder, c.sources, c.hour, share)
		if err == nil {
			return c.partial(share, folded), nil
		}
		if !errors.Is(err, ErrRecords) {
			return nil, err
		}
		culprits, failed := c.culprits(ctx, folder)
		if failed != nil || len(culprits) == 0 {
			return nil, errors.Join(err, failed)
		}
		c.refuse(culprits)
	}
}

func (c *copies) partial(share Share, folded Folded) *Partial {
	p := &Partial{
		Share: share, Hour: HourText(c.hour), Rows: folded.Rows, Disputed: folded.Disputed, Strays: folded.Strays,
		Objects: []BilledObject{}, Refused: append([]Refused{}, c.refused...),
	}
	slices.SortFunc(p.Rows, compareRows)
	for i, s := range c.sources {
		p.Objects = append(p.Objects, BilledObject{Key: s.key, Rows: s.rows, Billed: folded.Billed[i]})
	}
	return p
}

// culprits are the sources that cannot be folded even by themselves.
func (c *copies) culprits(ctx context.Context, folder Folder) (found []Refused, err error) {
	for _, s := range c.sources {
		switch _, err := foldChecked(ctx, folder, []source{s}, c.hour, Share{Of: 1}); {
		case errors.Is(err, ErrRecords):
			found = append(found, Refused{Key: s.key, Reason: strings.ReplaceAll(err.Error(), s.file, s.key)})
		case err != nil:
			return nil, err
		}
	}
	return found, nil
}

// foldChecked folds, and checks that tenants, functions and outcomes are such as the
// ledger writes.
func foldChecked(ctx context.Context, folder Folder, sources []source, hour time.Time, share Share) (Folded, error) {
	folded, err := folder.Fold(ctx, filesOf(sources), hour, share)
	if err != nil {
		return Folded{}, err
	}
	for _, row := range folded.Rows {
		if err := row.validate(); err != nil {
			return Folded{}, fmt.Errorf("%w: %w", ErrRecords, err)
		}
	}
	return folded, nil
}

func filesOf(sources []source) []string {
	files := make([]string, len(sources))
	for i, s := range sources {
		files[i] = s.file
	}
	return files
}
