package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/internal/testbed"
	"lightcone/usage"
	"lightcone/usage/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, folder string) *store.Bucket {
	t.Helper()
	bucket, err := store.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

func keys(t *testing.T, bucket *store.Bucket, prefix string) []string {
	t.Helper()
	var found []string
	err := bucket.List(t.Context(), prefix, func(o store.Object) error {
		found = append(found, o.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAFolderIsABucket(t *testing.T) {
	folder := t.TempDir()
	for _, location := range []string{folder, "file://" + folder} {
		bucket := open(t, location)
		isABucket(t, bucket)
		for _, outside := range []string{"../x", "/etc/x", "a/../../x", ""} {
			if err := bucket.Write(t.Context(), outside, nil); err == nil {
				t.Errorf("%q was written", outside)
			}
		}
	}
}

// A real S3 server, on the way to which half of the requests fail.
func TestS3IsABucketAlsoWhenHalfOfItFails(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Setenv("AWS_MAX_ATTEMPTS", "2") // the bucket has attempts of its own
	server := testbed.StartS3(t)
	bucket := open(t, server.Bucket(t, "usage", failing(t, server.Address)))
	isABucket(t, bucket)
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("usage/node=a/%04d", i), fmt.Sprintf("usage/node=a-b/%04d", i))
	}
	slices.Sort(want)
	for _, key := range want {
		if err := bucket.WriteNew(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if found := keys(t, bucket, "usage/"); !slices.Equal(found, want) {
		t.Errorf("listed %v, want %v", found, want)
	}
	if err := bucket.Close(); err != nil {
		t.Error(err)
	}
}

// failing is a way to a server on which half of the requests fail: refused before the
// server has them, or cut off when it has done them.
func failing(t *testing.T, address string) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	var mu sync.Mutex
	source := rand.New(rand.NewPCG(1, 2))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fate := source.IntN(4)
		mu.Unlock()
		switch fate {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler) // it is done, and nobody hears of it
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func isABucket(t *testing.T, bucket *store.Bucket) {
	t.Helper()
	const key = "a/b/c.json"
	for _, content := range []string{"one", "other"} {
		if err := bucket.Write(t.Context(), key, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := bucket.Read(t.Context(), key, 5); err != nil || string(content) != "other" {
		t.Errorf("read %q: %v", content, err)
	}
	if _, err := bucket.Read(t.Context(), key, 4); !errors.Is(err, store.ErrTooLong) {
		t.Errorf("more than is allowed: %v", err)
	}
	if err := bucket.WriteNew(t.Context(), key, []byte("other")); err != nil {
		t.Errorf("the same again: %v", err)
	}
	for _, other := range []string{"othe", "others", "OTHER"} {
		if err := bucket.WriteNew(t.Context(), key, []byte(other)); !errors.Is(err, store.ErrExists) {
			t.Errorf("%s over another: %v", other, err)
		}
	}
	for range 2 {
		if err := bucket.Delete(t.Context(), key); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := bucket.Read(t.Context(), key, 5); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("read what was deleted: %v", err)
	}
}

func TestAListingIsWholeAndInTheOrderOfKeys(t *testing.T) {
	bucket := open(t, t.TempDir())
	var want []string
	for i := range 1100 {
		want = append(want, fmt.Sprintf("usage/node=a/%04d", i), fmt.Sprintf("usage/node=a-b/%04d", i))
	}
	want = append(want, "usage/node=a.txt", "usagex/1")
	for _, key := range want {
		if err := bucket.Write(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	if found := keys(t, bucket, ""); !slices.Equal(found, want) {
		t.Errorf("%d keys in the listing, want %d in order", len(found), len(want))
	}
	if found := keys(t, bucket, "usage/node=a/"); len(found) != 1100 || found[1099] != "usage/node=a/1099" {
		t.Errorf("%d keys below the prefix", len(found))
	}
	if found := keys(t, bucket, "usage/node=a-b/109"); len(found) != 10 {
		t.Errorf("%d keys begin with half a name, want 10", len(found))
	}
	if found := keys(t, bucket, "nothing/"); len(found) != 0 {
		t.Errorf("%v is listed below nothing", found)
	}
}

func TestWhatAKilledWriterLeavesIsNoObject(t *testing.T) {
	folder := t.TempDir()
	bucket := open(t, folder)
	for _, name := range []string{"123.tmp", "x.parquet.17f2a0b3c4d5e6f7.tmp", "x.parquet.attrs"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := keys(t, bucket, ""); len(found) != 0 {
		t.Errorf("%v is listed", found)
	}
}

func TestPlacesThatAreNoBuckets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, location := range []string{"", "http://example.com", "s3://", "s3://bucket/folder", "file://host/folder", "mem://", file, "s3://%"} {
		if bucket, err := store.Open(t.Context(), location); err == nil {
			t.Errorf("%q was opened as %v", location, bucket)
		}
	}
}

var hour = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)

// object has rows of two tenants, whose names are in a dictionary.
func object(t testing.TB, node string, sequence uint64, n int) []byte {
	t.Helper()
	rows := make([]usage.Row, n)
	for i := range rows {
		rows[i] = usage.Row{
			Call: [16]byte{15: byte(i)}, Tenant: []string{"acme", "globex"}[i%2], Function: "resize", Outcome: "answered",
			CPU: int64(i) * 1e6, BytesIn: 1, BytesOut: 2, Start: hour.UnixMicro() + int64(i), Duration: 3,
		}
	}
	var content bytes.Buffer
	if _, err := usage.NewEncoder().Encode(&content, usage.Object{Node: node, Hour: hour, Sequence: sequence}, slices.Values(rows)); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

func TestInspectKnowsWhatTheLedgerWrites(t *testing.T) {
	for _, n := range []int{0, 1, 100, 10_000} {
		records, err := store.Inspect(object(t, "node-a", 7, n), "node-a", 7)
		if err != nil || records.Rows != int64(n) {
			t.Errorf("%+v of %d rows: %v", records, n, err)
		}
	}
	for _, test := range []struct {
		node     string
		sequence uint64
		want     string
	}{{"node-b", 7, "lightcone.node"}, {"node-a", 8, "lightcone.seq"}} {
		if _, err := store.Inspect(object(t, "node-a", 7, 3), test.node, test.sequence); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("under another's name: %v", err)
		}
	}
}

func TestInspectRefusesWhatWasCutShort(t *testing.T) {
	whole := object(t, "node-a", 7, 10)
	for length := range len(whole) {
		if _, err := store.Inspect(whole[:length], "node-a", 7); err == nil {
			t.Errorf("the first %d bytes of %d pass", length, len(whole))
		}
	}
	if _, err := store.Inspect(append(bytes.Clone(whole), 0), "node-a", 7); err == nil {
		t.Error("a byte more passes")
	}
}

// What Inspect lets pass, package usage has to read as the same rows; it never
// panics, whatever it is given.
func FuzzInspect(f *testing.F) {
	whole := object(f, "node-a", 7, 5)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("PAR1\x00\x00\x00\x00PAR1"))
	f.Fuzz(func(t *testing.T, content []byte) {
		records, err := store.Inspect(content, "node-a", 7)
		if err != nil {
			return
		}
		decoded := int64(0)
		err = usage.Decode(content, usage.Object{Node: "node-a", Hour: hour, Sequence: 7}, func(*usage.Row) error {
			decoded++
			return nil
		})
		if err == nil && decoded != records.Rows {
			t.Errorf("it is said to have %d rows, and has %d", records.Rows, decoded)
		}
	})
}
