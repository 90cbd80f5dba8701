package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob" // the scheme s3
	"gocloud.dev/gcerrors"
)

// How long one remote call may take: an object of 64 MiB at 1 MB/s, a page of a
// thousand names.
const (
	transferBound = time.Minute
	pageBound     = time.Minute
	pageSize      = 1000 // what S3 gives at most
)

// remote is a bucket behind a network.
type remote struct{ bucket *blob.Bucket }

func openRemote(ctx context.Context, location *url.URL) (*Bucket, error) {
	query := location.Query()
	if prefix := query.Get("prefix"); prefix != "" && !strings.HasSuffix(prefix, "/") {
		query.Set("prefix", prefix+"/")
	}
	whole := url.URL{Scheme: location.Scheme, Host: location.Host, RawQuery: query.Encode()}
	bucket, err := blob.OpenBucket(ctx, whole.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", location.Redacted(), err)
	}
	return &Bucket{storage: remote{bucket}, name: location.Redacted(), patient: true, close: bucket.Close}, nil
}

func (r remote) list(ctx context.Context, prefix string, visit func(Object) error) error {
	for token := blob.FirstPageToken; len(token) > 0; {
		objects, following, err := r.page(ctx, token, prefix)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := visit(Object{Key: o.Key, Size: o.Size}); err != nil {
				return err
			}
		}
		token = following
	}
	return nil
}

func (r remote) page(ctx context.Context, token []byte, prefix string) ([]*blob.ListObject, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageBound)
	defer cancel()
	return r.bucket.ListPage(ctx, token, pageSize, &blob.ListOptions{Prefix: prefix})
}

func (r remote) read(ctx context.Context, key string, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, transferBound)
	defer cancel()
	reader, err := r.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, known(err)
	}
	body, err := readMost(reader, most)
	if err == nil && int64(len(body)) != reader.Size() {
		err = io.ErrUnexpectedEOF
	}
	return body, errors.Join(err, reader.Close())
}

func (r remote) write(ctx context.Context, key string, body []byte, onlyNew bool) error {
	ctx, cancel := context.WithTimeout(ctx, transferBound)
	defer cancel()
	err := r.bucket.WriteAll(ctx, key, body, &blob.WriterOptions{ContentType: contentType(key), IfNotExist: onlyNew})
	return known(err)
}

func (r remote) delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, pageBound)
	defer cancel()
	return known(r.bucket.Delete(ctx, key))
}

// known gives an error of the driver's the name that this package has for it.
func known(err error) error {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return ErrNotFound
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return fmt.Errorf("%w: %w", ErrExists, err)
	default:
		return err
	}
}

func contentType(key string) string {
	switch {
	case strings.HasSuffix(key, ".json"):
		return "application/json"
	case strings.HasSuffix(key, ".csv"):
		return "text/csv; charset=utf-8"
	default:
		return "application/vnd.apache.parquet"
	}
}
