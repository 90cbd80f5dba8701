package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lightcone"
	"lightcone/usage"
	"lightcone/usage/store"
)

// MoveHour moves an hour's objects to the archive, as far as they have been billed:
// billed are the rows of those, by key. Others stay: they have come late, or were set
// aside. It returns how many it has moved. The order is copy, verify, manifest,
// delete.
func (a Archive) MoveHour(ctx context.Context, hour time.Time, billed map[string]int64, now time.Time) (moved int, err error) {
	if err := a.finishLast(ctx); err != nil {
		return 0, err
	}
	var keys []string
	err = a.Hot.List(ctx, usage.HourPrefix(hour), func(o store.Object) error {
		if _, done := billed[o.Key]; done {
			keys = append(keys, o.Key)
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	objects := make([]Object, 0, len(keys))
	for _, key := range keys {
		object, err := a.copy(ctx, key, billed[key])
		if err != nil {
			return 0, err
		}
		objects = append(objects, object)
	}
	manifest, err := a.append(ctx, archived, objects, now)
	if err != nil {
		return 0, err
	}
	return len(objects), a.finish(ctx, manifest)
}

// copy brings an object to the archive, and reads it back.
func (a Archive) copy(ctx context.Context, key string, rows int64) (Object, error) {
	name, _ := usage.ParseObject(key)
	content, err := a.Hot.Read(ctx, key, store.LongestObject)
	if err != nil {
		return Object{}, err
	}
	// What is billed and has been damaged since must not pass for the original.
	found, err := store.Inspect(content, name.Node, name.Sequence)
	if err != nil {
		return Object{}, fmt.Errorf("%q in %s is not archived: %w", key, a.Hot, err)
	}
	if found.Rows != rows {
		return Object{}, fmt.Errorf("%q in %s is not archived: it has %d records, and was billed with %d", key, a.Hot, found.Rows, rows)
	}
	if err := a.Cold.WriteNew(ctx, coldKey(key), content); err != nil {
		return Object{}, err
	}
	object := Object{Key: key, Size: int64(len(content)), Digest: lightcone.DigestOf(content), Rows: rows}
	_, err = a.read(ctx, object)
	return object, err
}

// read reads an object of the archive, and checks that it is the one that was moved.
func (a Archive) read(ctx context.Context, object Object) ([]byte, error) {
	content, err := a.Cold.Read(ctx, coldKey(object.Key), store.LongestObject)
	if err != nil {
		return nil, err
	}
	if digest := lightcone.DigestOf(content); digest != object.Digest {
		return nil, fmt.Errorf("%q in %s has the digest %v, want %v: it was changed", coldKey(object.Key), a.Cold, digest, object.Digest)
	}
	return content, nil
}

// Objects are those that the archive holds by its manifests, by key.
func (a Archive) Objects(ctx context.Context) (map[string]Object, error) {
	numbers, err := a.numbers(ctx)
	if err != nil {
		return nil, err
	}
	held := make(map[string]Object)
	for _, number := range numbers {
		manifest, _, err := a.manifest(ctx, number)
		if err != nil {
			return nil, err
		}
		manifest.apply(held)
	}
	return held, nil
}

func (m *Manifest) apply(held map[string]Object) {
	for _, object := range m.Objects {
		if m.Kind == expired {
			delete(held, object.Key)
		} else {
			held[object.Key] = object
		}
	}
}

// RestoreHour copies an hour's objects back to where billing finds them, and says how
// many there are. The archive keeps them.
func (a Archive) RestoreHour(ctx context.Context, hour time.Time) (restored int, err error) {
	held, err := a.Objects(ctx)
	if err != nil {
		return 0, err
	}
	for key, object := range held {
		if name, ok := usage.ParseObject(key); !ok || !name.Hour.Equal(hour) {
			continue
		}
		content, err := a.read(ctx, object)
		if err != nil {
			return restored, err
		}
		if err := a.Hot.WriteNew(ctx, key, content); err != nil {
			return restored, err
		}
		restored++
	}
	return restored, nil
}

// Verification is what a look at the whole archive has found.
type Verification struct {
	Manifests int
	Objects   int              // that the archive holds
	Last      lightcone.Digest // of the last manifest: to be noted elsewhere
	Findings  []string
}

// Verify reads the whole archive: the chain has no gap and no altered link, every
// object that it lists is there with its digest, and no other.
func (a Archive) Verify(ctx context.Context) (*Verification, error) {
	numbers, err := a.numbers(ctx)
	if err != nil {
		return nil, err
	}
	found, held := &Verification{Manifests: len(numbers)}, make(map[string]Object)
	for i, number := range numbers {
		if number != i+1 {
			found.find("manifest %d is missing", i+1)
			return found, nil
		}
		manifest, digest, err := a.manifest(ctx, number)
		if err != nil {
			found.find("%v", err)
			return found, nil
		}
		if manifest.Previous != found.Last {
			found.find("manifest %d follows one with the digest %v, and the one before it has %v: one of them was changed", number, manifest.Previous, found.Last)
		}
		found.Last = digest
		manifest.apply(held)
	}
	found.Objects = len(held)
	return found, a.verifyObjects(ctx, found, held)
}

func (a Archive) verifyObjects(ctx context.Context, found *Verification, held map[string]Object) error {
	var keys []string
	err := a.Cold.List(ctx, coldKey("usage/"), func(o store.Object) error {
		keys = append(keys, o.Key[len(coldPrefix):])
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		object, listed := held[key]
		if !listed {
			found.find("%q is in no manifest: a run that was interrupted left it, or somebody else", key)
			continue
		}
		delete(held, key)
		if _, err := a.read(ctx, object); err != nil {
			found.find("%v", err)
		}
	}
	missing := make([]string, 0, len(held))
	for key := range held {
		missing = append(missing, key)
	}
	slices.Sort(missing)
	for _, key := range missing {
		found.find("%q is missing", key)
	}
	return ctx.Err()
}

func (v *Verification) find(format string, args ...any) {
	v.Findings = append(v.Findings, fmt.Sprintf(format, args...))
}
