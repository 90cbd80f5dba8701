package usage

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/testbed"
	"lightcone/usage/store"
)

// failing is a way to a real S3 server on which half of the requests fail: refused
// before the server has them, or cut off when it has done them.
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
			time.Sleep(30 * time.Millisecond) // and the others are slow
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// patient makes the AWS client leave trying again to the ledger, and close its
// connections at the end.
func patient(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
}

func TestAnS3StoreThatFailsHalfItsRequests(t *testing.T) {
	server := testbed.StartS3(t)
	patient(t)
	config, _ := configFor(t, t.TempDir())
	config.Bucket = server.Bucket(t, "usage", failing(t, server.Address))
	l := begin(t, config)
	all := records(0, 2500)
	for i := range all[:700] {
		all[i].Start = all[i].Start.Add(-2 * time.Hour)
	}
	put(t, l, all)
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	config.Bucket = strings.Replace(config.Bucket, url.QueryEscape(hostOf(t, config.Bucket)), url.QueryEscape("http://"+server.Address), 1)
	s := bucketOf(t, config)
	expectStored(t, s, all)
	for key, c := range counts(t, s) {
		if c.Difference() != 0 || !c.Closed && c.Answered > 0 {
			t.Errorf("%s: %+v", key, c)
		}
	}
}

// hostOf is the endpoint in a bucket's URL.
func hostOf(t *testing.T, bucket string) string {
	t.Helper()
	parsed, err := url.Parse(bucket)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Query().Get("endpoint")
}

// A store that is away for long fills the disk up to its bound, loudly; what was
// kept goes there when the store is back, oldest first, and calls can be recorded again.
func TestAnS3StoreThatIsAwayForLong(t *testing.T) {
	server := testbed.StartS3(t)
	patient(t)
	config, log := configFor(t, t.TempDir())
	config.Bucket, config.MaxDiskBytes = server.Bucket(t, "usage", server.Address), leastSegments*leastSegment
	registry := prometheus.NewRegistry()
	config.Metrics = registry
	l := begin(t, config)
	server.Kill()
	n, warned := 0, false
	for ; ; n++ {
		r := record(n)
		err := l.Append(&r)
		if errors.Is(err, ErrFull) {
			break
		}
		if err = errors.Join(err, l.Answered(r.Start)); err != nil {
			t.Fatal(err)
		}
		if !warned && errors.Is(l.Full(), ErrFull) {
			warned = true
		} else if warned && l.Full() == nil {
			t.Fatal("it was full, and is not, and nothing was shipped")
		}
	}
	if !warned {
		t.Error("an Append failed before Full said that admission must stop")
	}
	used := int64(0)
	files, err := filepath.Glob(filepath.Join(config.Dir, "*.segment"))
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		used += info.Size()
	}
	if err != nil || used > config.MaxDiskBytes {
		t.Errorf("%d bytes on the disk, of at most %d: %v", used, config.MaxDiskBytes, err)
	}
	await(t, "it says so", func() bool { return strings.Contains(log.String(), "admission must stop") })
	if gauge(t, registry, "lightcone_usage_full") != 1 {
		t.Error("no metric says so")
	}
	// What is there can be asked for meanwhile.
	answer, err := l.Totals(t.Context(), "", HoursOf(past, past.Add(time.Hour)))
	if err != nil || callsIn(answer.Sums) != int64(n) {
		t.Errorf("%d calls of %d: %v", callsIn(answer.Sums), n, err)
	}
	server.Restart()
	await(t, "it takes records again", func() bool { return l.Full() == nil })
	r := record(n)
	await(t, "a segment is there again", func() bool { return l.Append(&r) == nil })
	if err := errors.Join(l.Answered(r.Start), halt(l)); err != nil {
		t.Fatal(err)
	}
	expectStored(t, bucketOf(t, config), records(0, n+1))
}

// A store that has stopped answering holds a stop up no longer than its bound, and
// what is not shipped comes at the next start.
func TestAnS3StoreThatDoesNotAnswer(t *testing.T) {
	server := testbed.StartS3(t)
	patient(t)
	config, _ := configFor(t, t.TempDir())
	config.Bucket = server.Bucket(t, "usage", server.Address)
	l := begin(t, config)
	put(t, l, records(0, 100))
	await(t, "the first are shipped", func() bool { return idle(l) })
	server.Freeze()
	put(t, l, records(100, 200))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := l.Stop(ctx); err == nil || !strings.Contains(err.Error(), "1 segments") {
		t.Errorf("stopped as if all was well: %v", err)
	}
	server.Thaw()
	if err := halt(begin(t, config)); err != nil {
		t.Fatal(err)
	}
	expectStored(t, bucketOf(t, config), records(0, 200))
}

// What is longer than one request of the S3 client is stored, found and not replaced
// like everything else.
func TestALongObjectInS3(t *testing.T) {
	server := testbed.StartS3(t)
	patient(t)
	s := bucketOf(t, Config{Bucket: server.Bucket(t, "usage", server.Address)})
	content := make([]byte, 20<<20)
	for i := range content {
		content[i] = byte(i >> 10)
	}
	for range 2 {
		if err := s.WriteNew(t.Context(), "usage/long.parquet", content); err != nil {
			t.Fatal(err)
		}
	}
	other := append(bytes.Clone(content[1:]), 1)
	if err := s.WriteNew(t.Context(), "usage/long.parquet", other); !errors.Is(err, store.ErrExists) {
		t.Errorf("another of that name: %v", err)
	}
	there, err := s.Read(t.Context(), "usage/long.parquet", store.LongestObject)
	if !bytes.Equal(there, content) || err != nil {
		t.Errorf("%d bytes: %v", len(there), err)
	}
}

// gauge is a metric's value; a counter's, too.
func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// The folder is listed whole and in order, whatever the nodes are called, and what
// is not a ledger's is passed over.
func TestAFolderWithManyNodes(t *testing.T) {
	t.Parallel()
	config := Config{Bucket: "file://" + t.TempDir()}
	s := bucketOf(t, config)
	want := 0
	for _, node := range []string{"a", "a-b", "a-c", "b"} {
		for sequence := range uint64(3) {
			o := Object{Node: node, Hour: past, Sequence: sequence}
			if err := s.WriteNew(t.Context(), o.Key(), encodeRecords(t, o, records(want, want+2))); err != nil {
				t.Fatal(err)
			}
			want += 2
		}
	}
	for _, stray := range []string{HourPrefix(past) + "notes.txt", HourPrefix(past) + "node=a/1.parquet"} {
		if err := s.WriteNew(t.Context(), stray, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenReader(t.Context(), config.Bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	got, err := r.Sum(t.Context(), "", HoursOf(past, past.Add(time.Minute)), nil)
	if err != nil || callsIn(got) != int64(want) {
		t.Errorf("%d calls of %d: %v", callsIn(got), want, err)
	}
}

func callsIn(sums []Sum) (calls int64) {
	for _, s := range sums {
		calls += s.Calls
	}
	return calls
}
