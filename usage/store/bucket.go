package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lightcone/internal/retry"
)

// What a bucket says of one object rather than of itself.
var (
	ErrNotFound = errors.New("there is no such object")
	ErrTooLong  = errors.New("the object is longer than allowed")
	ErrExists   = errors.New("there is another object of that name")
)

// Object is what a listing says of one object.
type Object struct {
	Key  string // slash-separated, below the bucket's root
	Size int64  // bytes
}

// storage is a folder or a remote bucket, one attempt a call.
type storage interface {
	list(ctx context.Context, prefix string, visit func(Object) error) error
	read(ctx context.Context, key string, most int64) ([]byte, error)
	write(ctx context.Context, key string, body []byte, onlyNew bool) error
	delete(ctx context.Context, key string) error
}

// Bucket is a folder or a bucket's prefix. Make one with Open. Its methods may be
// called from many goroutines; keys are slash-separated and stay below its root.
type Bucket struct {
	storage storage
	name    string // for people
	patient bool   // whether a failure may pass
	close   func() error
}

// Open opens a folder, given as a path or as file:///path and made if it is
// missing, or a bucket's prefix, given as s3://bucket?prefix=usage/&region=…, with
// the parameters that gocloud.dev's s3blob takes. Credentials are found as AWS's own
// tools do.
func Open(ctx context.Context, location string) (*Bucket, error) {
	parsed, err := url.Parse(location)
	switch {
	case location == "":
		return nil, errors.New("no bucket is named: want a folder's path, file:///path or s3://bucket?prefix=folder/")
	case !strings.Contains(location, "://"):
		return openFolder(location)
	case err != nil:
		return nil, fmt.Errorf("bucket %q: %w", location, err)
	case parsed.Scheme == "file" && parsed.Host == "":
		return openFolder(parsed.Path)
	case parsed.Scheme == "s3" && parsed.Host != "" && strings.Trim(parsed.Path, "/") == "":
		return openRemote(ctx, parsed)
	default:
		return nil, fmt.Errorf("bucket %q: want a folder's path, file:///path or s3://bucket?prefix=folder/", parsed.Redacted())
	}
}

func openFolder(path string) (*Bucket, error) {
	root, err := filepath.Abs(path)
	if err == nil {
		err = os.MkdirAll(root, 0o777)
	}
	if err != nil {
		return nil, fmt.Errorf("the folder %s: %w", path, err)
	}
	return &Bucket{storage: folder(root), name: path, close: func() error { return nil }}, nil
}

// String names the bucket as it was given.
func (b *Bucket) String() string { return b.name }

// Close lets go of the bucket.
func (b *Bucket) Close() error { return b.close() }

// List visits the objects whose key starts with prefix, in the bytewise order of
// keys, until visit fails.
func (b *Bucket) List(ctx context.Context, prefix string, visit func(Object) error) error {
	var objects []Object // a second attempt must not visit twice
	err := b.attempt(ctx, func() error {
		objects = objects[:0]
		return b.storage.list(ctx, prefix, func(o Object) error {
			objects = append(objects, o)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("list %s in %s: %w", prefix, b, err)
	}
	for _, object := range objects {
		if err := visit(object); err != nil {
			return err
		}
	}
	return nil
}

// Read reads an object. Its errors are ErrNotFound, ErrTooLong if it has more than
// most bytes, and whatever the storage met.
func (b *Bucket) Read(ctx context.Context, key string, most int64) (body []byte, err error) {
	err = b.attempt(ctx, func() error {
		body, err = b.storage.read(ctx, key, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %q in %s: %w", key, b, err)
	}
	return body, nil
}

// Write makes or replaces an object.
func (b *Bucket) Write(ctx context.Context, key string, body []byte) error {
	err := b.attempt(ctx, func() error { return b.storage.write(ctx, key, body, false) })
	if err != nil {
		return fmt.Errorf("write %q in %s: %w", key, b, err)
	}
	return nil
}

// WriteNew makes an object. If there is one of that name with other bytes, its
// error is ErrExists.
func (b *Bucket) WriteNew(ctx context.Context, key string, body []byte) error {
	err := b.attempt(ctx, func() error {
		err := b.storage.write(ctx, key, body, true)
		if !errors.Is(err, ErrExists) {
			return err
		}
		// It may be an earlier attempt of our own whose answer was lost.
		there, readErr := b.storage.read(ctx, key, int64(len(body)))
		switch {
		case readErr == nil && bytes.Equal(there, body):
			return nil
		case readErr == nil || errors.Is(readErr, ErrTooLong):
			return err
		default:
			return readErr
		}
	})
	if err != nil {
		return fmt.Errorf("write %q in %s: %w", key, b, err)
	}
	return nil
}

// Delete removes an object; one that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	err := b.attempt(ctx, func() error { return b.storage.delete(ctx, key) })
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete %q in %s: %w", key, b, err)
	}
	return nil
}

const (
	attempts     = 8
	shortestWait = 100 * time.Millisecond
	longestWait  = 5 * time.Second
)

// attempt does something up to a few times, unless its failure cannot pass.
func (b *Bucket) attempt(ctx context.Context, once func() error) error {
	if ctx.Err() != nil {
		return ctx.Err() // a folder does not look at ctx by itself
	}
	for failures := 1; ; failures++ {
		err := once()
		lasting := errors.Is(err, ErrNotFound) || errors.Is(err, ErrTooLong) || errors.Is(err, ErrExists)
		if err == nil || lasting || !b.patient || failures == attempts {
			return err
		}
		if ended := retry.Pause(ctx, retry.BackOff(failures, shortestWait, longestWait, rand.Float64())); ended != nil {
			return errors.Join(err, ended)
		}
	}
}
