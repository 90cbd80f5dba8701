package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"lightcone"
	"lightcone/usage"
	"lightcone/usage/store"
)

// Archive is two buckets: one that the ledger and billing use, and a cold one.
type Archive struct {
	Hot, Cold *store.Bucket
}

// What a manifest says of its objects.
const (
	archived = "archived" // the archive holds them
	expired  = "expired"  // it no longer does
)

// Manifest is an entry of the archive's chain: archive/manifest/NUMBER.json.
type Manifest struct {
	Number   int              `json:"number"`          // from 1, without gaps
	Previous lightcone.Digest `json:"previous_sha256"` // of the manifest before it; zeros in the first
	Kind     string           `json:"kind"`            // "archived" or "expired"
	Made     time.Time        `json:"made"`
	Objects  []Object         `json:"objects"`
}

// Object is an object of records in the archive, where it lies under its key below
// archive/.
type Object struct {
	Key    string           `json:"key"`
	Size   int64            `json:"size"` // bytes
	Digest lightcone.Digest `json:"sha256"`
	Rows   int64            `json:"rows"` // records, as they were billed
}

const (
	coldPrefix     = "archive/"
	manifestPrefix = coldPrefix + "manifest/"
	// longestManifest bounds what is read back, in bytes: an hour of 100 000 objects
	// has some 25 MB.
	longestManifest = 256 << 20
)

func coldKey(key string) string { return coldPrefix + key }

func manifestKey(number int) string { return fmt.Sprintf("%s%020d.json", manifestPrefix, number) }

var manifestShape = regexp.MustCompile(`^archive/manifest/([0-9]{20})\.json$`)

// numbers lists the manifests there are, in order.
func (a Archive) numbers(ctx context.Context) ([]int, error) {
	var numbers []int
	err := a.Cold.List(ctx, manifestPrefix, func(o store.Object) error {
		parts := manifestShape.FindStringSubmatch(o.Key)
		if parts == nil {
			return fmt.Errorf("%q in %s is no manifest: remove it", o.Key, a.Cold)
		}
		number, err := strconv.Atoi(parts[1])
		numbers = append(numbers, number)
		return err
	})
	return numbers, err
}

// manifest reads one, and says what its digest is.
func (a Archive) manifest(ctx context.Context, number int) (*Manifest, lightcone.Digest, error) {
	content, err := a.Cold.Read(ctx, manifestKey(number), longestManifest)
	if err != nil {
		return nil, lightcone.Digest{}, err
	}
	m, err := parseManifest(content)
	if err == nil && m.Number != number {
		err = fmt.Errorf("its number is %d", m.Number)
	}
	if err != nil {
		return nil, lightcone.Digest{}, fmt.Errorf("manifest %d: %w", number, err)
	}
	return m, lightcone.DigestOf(content), nil
}

func parseManifest(content []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(content, m); err != nil {
		return nil, err
	}
	if m.Kind != archived && m.Kind != expired {
		return nil, fmt.Errorf("its kind is %q, want %q or %q", m.Kind, archived, expired)
	}
	for _, object := range m.Objects {
		if _, ok := usage.ParseObject(object.Key); !ok || object.Size < 0 || object.Rows < 0 {
			return nil, fmt.Errorf("it lists %+v, which is no object of the ledger's", object)
		}
	}
	return m, nil
}

// last is the chain's last manifest; number 0 if it is empty.
func (a Archive) last(ctx context.Context) (*Manifest, lightcone.Digest, error) {
	numbers, err := a.numbers(ctx)
	if err != nil || len(numbers) == 0 {
		return new(Manifest), lightcone.Digest{}, err
	}
	return a.manifest(ctx, numbers[len(numbers)-1])
}

// append writes the chain's next manifest.
func (a Archive) append(ctx context.Context, kind string, objects []Object, now time.Time) (*Manifest, error) {
	last, digest, err := a.last(ctx)
	if err != nil {
		return nil, err
	}
	next := &Manifest{Number: last.Number + 1, Previous: digest, Kind: kind, Made: now.UTC(), Objects: objects}
	content, err := json.MarshalIndent(next, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	if err := a.Cold.WriteNew(ctx, manifestKey(next.Number), append(content, '\n')); err != nil {
		if errors.Is(err, store.ErrExists) {
			return nil, fmt.Errorf("another process has written manifest %d: run again when it is done", next.Number)
		}
		return nil, err
	}
	return next, nil
}

// finish does what a manifest says is done: an interrupted run may have left it.
func (a Archive) finish(ctx context.Context, m *Manifest) error {
	for _, object := range m.Objects {
		bucket, key := a.Hot, object.Key
		if m.Kind == expired {
			bucket, key = a.Cold, coldKey(object.Key)
		}
		content, err := bucket.Read(ctx, key, store.LongestObject)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if digest := lightcone.DigestOf(content); digest != object.Digest {
			return fmt.Errorf("%q in %s has the digest %v, manifest %d says %v: it is left; find out who has written it", key, bucket, digest, m.Number, object.Digest)
		}
		if err := bucket.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// finishLast finishes the last manifest: no later one is written before that.
func (a Archive) finishLast(ctx context.Context) error {
	last, _, err := a.last(ctx)
	if err != nil {
		return err
	}
	return a.finish(ctx, last)
}
