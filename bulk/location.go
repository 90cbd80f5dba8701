package bulk

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // the scheme s3
	"gocloud.dev/gcerrors"
)

// How long one remote call may take: an object of 20 MiB at 350 KB/s, a page of
// a thousand names, a look at one.
const (
	transferBound = time.Minute
	pageBound     = time.Minute
	lookBound     = 15 * time.Second

	pageSize = 1000 // what S3 gives at most
)

// Location is a folder or bucket prefix as a Store. Make one with Open or
// NewLocation.
type Location struct {
	bucket *blob.Bucket
	name   string // for people
	root   string // of what it is a part: "file", or a bucket's URL
	path   string // below root: "" or ending with a slash
	folder string // the folder, absolute and free of symbolic links; "" for a bucket
}

// NewLocation makes a Store of an open bucket, which stays the caller's to close.
func NewLocation(bucket *blob.Bucket, name string) *Location {
	return &Location{bucket: bucket, name: name, root: name}
}

// Open opens a folder, given as a path or as file:///path, or a bucket's prefix,
// given as s3://bucket?prefix=photos/&region=…, with the parameters that
// gocloud.dev's s3blob takes. A prefix means a folder, whether its final slash is
// written or not. Credentials are found as AWS's own tools do. With create, a
// folder that is missing is made.
func Open(ctx context.Context, location string, create bool) (*Location, error) {
	parsed, err := url.Parse(location)
	switch {
	case location == "":
		return nil, fmt.Errorf("no folder or bucket is named: want a folder's path, file:///path or s3://bucket?prefix=folder/")
	case !strings.Contains(location, "://"):
		return openFolder(location, create)
	case err != nil:
		return nil, fmt.Errorf("location %q: %w", location, err)
	case parsed.Scheme == "file" && (parsed.Host != "" && parsed.Host != "localhost" || parsed.RawQuery != ""):
		return nil, fmt.Errorf("location %q: want file:///path, with an absolute path and no parameters", location)
	case parsed.Scheme == "file":
		return openFolder(parsed.Path, create)
	case parsed.Scheme == "s3":
		return openBucket(ctx, parsed)
	default:
		return nil, fmt.Errorf("location %q: want a folder's path, file:///path or s3://bucket?prefix=folder/", location)
	}
}

func openBucket(ctx context.Context, location *url.URL) (*Location, error) {
	query := location.Query()
	prefix := query.Get("prefix")
	if location.Host == "" || strings.Trim(location.Path, "/") != "" {
		return nil, fmt.Errorf("location %q: want s3://bucket?prefix=folder/, with what is below the bucket as the prefix", location.Redacted())
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
		query.Set("prefix", prefix)
	}
	whole := url.URL{Scheme: location.Scheme, Host: location.Host, RawQuery: query.Encode()}
	bucket, err := blob.OpenBucket(ctx, whole.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", location.Redacted(), err)
	}
	return &Location{
		bucket: bucket, name: location.Redacted(),
		root: location.Scheme + "://" + location.Host + "?" + query.Get("endpoint"), path: prefix,
	}, nil
}

func openFolder(folder string, create bool) (*Location, error) {
	if create {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return nil, fmt.Errorf("make the folder: %w", err)
		}
	}
	whole, err := filepath.Abs(folder)
	if err == nil {
		whole, err = filepath.EvalSymlinks(whole)
	}
	if err != nil {
		return nil, fmt.Errorf("the folder %s: %w", folder, err)
	}
	// Temporary files belong beside their outputs: a rename works on one file
	// system only. Attributes would be a second file beside each.
	bucket, err := fileblob.OpenBucket(whole, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		return nil, fmt.Errorf("the folder %s: %w", folder, err)
	}
	return &Location{
		bucket: bucket, name: folder, folder: whole,
		root: "file", path: strings.TrimSuffix(filepath.ToSlash(whole), "/") + "/",
	}, nil
}

// String names the location as it was given.
func (l *Location) String() string { return l.name }

// Close lets go of the bucket.
func (l *Location) Close() error { return l.bucket.Close() }

// Apart says which keys of in are out's, when out lies in it: they are no
// inputs. Its error is about an out that is in, or around it: answers could then
// replace originals.
func Apart(in, out *Location) (except string, err error) {
	below, inside := strings.CutPrefix(out.path, in.path)
	switch {
	case in.root != out.root:
		return "", nil
	case in.path == out.path:
		return "", fmt.Errorf("input and output are the same, %s: name another output, so that no original is overwritten", in)
	case inside:
		return below, nil
	case strings.HasPrefix(in.path, out.path):
		return "", fmt.Errorf("the input %s lies in the output %s: name an output beside it or in it, so that no original is overwritten", in, out)
	default:
		return "", nil
	}
}

// List visits the objects in the order of keys.
func (l *Location) List(ctx context.Context, prefix string, visit func(Object) error) error {
	if l.folder != "" {
		return l.walk(ctx, prefix, visit)
	}
	for token := blob.FirstPageToken; len(token) > 0; {
		objects, following, err := l.page(ctx, token, prefix)
		if err != nil {
			return fmt.Errorf("list %s: %w", l, err)
		}
		for _, o := range objects {
			if err := visit(Object{Key: o.Key, Size: o.Size, Modified: o.ModTime}); err != nil {
				return err
			}
		}
		token = following
	}
	return nil
}

func (l *Location) page(ctx context.Context, token []byte, prefix string) ([]*blob.ListObject, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageBound)
	defer cancel()
	return l.bucket.ListPage(ctx, token, pageSize, &blob.ListOptions{Prefix: prefix})
}

// Read appends the object's bytes to into.
func (l *Location) Read(ctx context.Context, key string, most int64, into []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, transferBound)
	defer cancel()
	reader, err := l.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return into, l.failed("read", key, err)
	}
	defer func() { _ = reader.Close() }()
	length := reader.Size()
	if length > most {
		return into, fmt.Errorf("read %q in %s: %w: %d bytes, want at most %d", key, l, ErrTooLong, length, most)
	}
	start := len(into)
	into = slices.Grow(into, int(length))[:start+int(length)]
	if _, err := io.ReadFull(reader, into[start:]); err != nil {
		return into[:start], l.failed("read", key, err)
	}
	// A file that grows while it is read would arrive cut short.
	if n, err := reader.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return into[:start], fmt.Errorf("read %q in %s: it changed while it was read", key, l)
	}
	return into, nil
}

// Write makes or replaces the object. The drivers put it in place when the
// writer is closed, unless its context has ended.
func (l *Location) Write(ctx context.Context, key, contentType string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, transferBound)
	defer cancel()
	options := &blob.WriterOptions{ContentType: contentType}
	if l.folder != "" {
		options.BeforeWrite = markAlive
	}
	writer, err := l.bucket.NewWriter(ctx, key, options)
	if err != nil {
		return l.failed("write", key, err)
	}
	if _, err := writer.Write(body); err != nil {
		cancel() // or Close would put half of it in place
		_ = writer.Close()
		return l.failed("write", key, err)
	}
	if err := writer.Close(); err != nil {
		return l.failed("write", key, err)
	}
	return nil
}

// Size is the object's length.
func (l *Location) Size(ctx context.Context, key string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	attributes, err := l.bucket.Attributes(ctx, key)
	if err != nil {
		return 0, l.failed("look at", key, err)
	}
	return attributes.Size, nil
}

func (l *Location) failed(what, key string, err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound && what != "write" {
		return fmt.Errorf("%s %q in %s: %w", what, key, l, ErrNotFound)
	}
	return fmt.Errorf("%s %q in %s: %w", what, key, l, err)
}
