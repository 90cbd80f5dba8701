package usage

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // the scheme s3
	"gocloud.dev/gcerrors"
)

// storeBound is how long one request to the bucket may take: an object of 10 MB
// at 350 KB/s.
const storeBound = 30 * time.Second

// mostObject is the longest object that is read; the ledger writes some 5 MB at most
// with its default SealBytes.
const mostObject = 256 << 20

// errAbsent is in the error of a read of an object that is not there.
var errAbsent = errors.New("there is no such object")

// store is the bucket, with a deadline for each request. A folder is made durable
// as a bucket is: what put has stored outlives the machine's loss.
type store struct {
	bucket *blob.Bucket
	folder string // "" for a bucket
	bound  time.Duration
}

// openStore opens file:///folder, which is made if it is missing, or
// s3://bucket?region=…&endpoint=…&prefix=…, with the parameters of gocloud.dev's
// s3blob. Credentials are found as AWS's own tools do.
func openStore(ctx context.Context, location string) (*store, error) {
	parsed, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("bucket %q: %w", location, err)
	}
	switch {
	case parsed.Scheme == "file" && parsed.Host == "" && filepath.IsAbs(parsed.Path) && parsed.RawQuery == "":
		if err := os.MkdirAll(parsed.Path, 0o750); err != nil {
			return nil, fmt.Errorf("make the folder of the bucket: %w", err)
		}
		bucket, err := fileblob.OpenBucket(parsed.Path, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
		if err != nil {
			return nil, fmt.Errorf("bucket %q: %w", location, err)
		}
		return &store{bucket: bucket, folder: parsed.Path, bound: storeBound}, nil
	case parsed.Scheme == "s3" && parsed.Host != "" && strings.Trim(parsed.Path, "/") == "":
		bucket, err := blob.OpenBucket(ctx, location)
		if err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", parsed.Redacted(), err)
		}
		return &store{bucket: bucket, bound: storeBound}, nil
	default:
		return nil, fmt.Errorf("bucket %q: want file:///folder or s3://bucket?region=…", parsed.Redacted())
	}
}

// put writes an object whole or not at all. With once, it replaces nothing: it
// answers false if the key is taken.
func (s *store) put(ctx context.Context, key string, content []byte, once bool) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	err := s.bucket.WriteAll(ctx, key, content, &blob.WriterOptions{
		ContentType: contentTypes[path.Ext(key)], IfNotExist: once, DisableContentTypeDetection: true,
	})
	if once && gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("store %s: %w", key, err)
	}
	if err := s.settle(key); err != nil {
		return false, fmt.Errorf("make %s durable: %w", key, err)
	}
	return true, nil
}

var contentTypes = map[string]string{".parquet": "application/vnd.apache.parquet", ".json": "application/json"}

// settle brings a folder's new file, and the names that lead to it, to the disk.
func (s *store) settle(key string) error {
	if s.folder == "" {
		return nil
	}
	for name := key; ; name = path.Dir(name) {
		if err := syncPath(filepath.Join(s.folder, filepath.FromSlash(name))); err != nil || name == "." {
			return err
		}
	}
}

// syncPath brings a file or folder to the disk.
func syncPath(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// has says whether the object is there with exactly this content: by its length and
// the store's own MD5 where it has one, or else by reading it back.
func (s *store) has(ctx context.Context, key string, content []byte) (bool, error) {
	bounded, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	found, err := s.bucket.Attributes(bounded, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", key, err)
	}
	if found.Size != int64(len(content)) {
		return false, nil
	}
	if len(found.MD5) == md5.Size {
		sum := md5.Sum(content)
		return bytes.Equal(found.MD5, sum[:]), nil
	}
	stored, err := s.read(ctx, key)
	return err == nil && bytes.Equal(stored, content), err
}

// read is an object's content.
func (s *store) read(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	reader, err := s.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("read %s: %w", key, errAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer func() { _ = reader.Close() }()
	if reader.Size() > mostObject {
		return nil, fmt.Errorf("read %s: it has %d bytes, want at most %d", key, reader.Size(), mostObject)
	}
	content := make([]byte, reader.Size())
	if _, err := io.ReadFull(reader, content); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return content, nil
}

// list visits the keys that begin with prefix, which ends with a slash, in order.
func (s *store) list(ctx context.Context, prefix string, visit func(key string) error) error {
	if s.folder != "" {
		return s.walk(ctx, prefix, visit)
	}
	for token := blob.FirstPageToken; len(token) > 0; {
		bounded, cancel := context.WithTimeout(ctx, s.bound)
		objects, following, err := s.bucket.ListPage(bounded, token, 1000, &blob.ListOptions{Prefix: prefix})
		cancel()
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, o := range objects {
			if err := visit(o.Key); err != nil {
				return err
			}
		}
		token = following
	}
	return nil
}

// walk lists a folder by itself: fileblob's listing loses keys from a thousand on
// (those of node=a-b after node=a, in v0.47.0). Unfinished files end with .tmp.
func (s *store) walk(ctx context.Context, prefix string, visit func(key string) error) error {
	entries, err := os.ReadDir(filepath.Join(s.folder, filepath.FromSlash(prefix)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	var keys []string
	for _, entry := range entries {
		switch key := prefix + entry.Name(); {
		case entry.IsDir():
			keys = append(keys, key+"/")
		case !strings.HasSuffix(key, ".tmp"):
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case strings.HasSuffix(key, "/"):
			err = s.walk(ctx, key, visit)
		default:
			err = visit(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *store) close() error { return s.bucket.Close() }
