package bulk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func folder(t *testing.T) *Location {
	t.Helper()
	l, err := Open(t.Context(), t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func keysOf(t fataler, store Store, prefix string) []string {
	t.Helper()
	keys := []string{}
	if err := store.List(context.Background(), prefix, func(o Object) error { keys = append(keys, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	return keys
}

// gocloud.dev's own listing of a folder loses a-b when the folder a beside it
// has more than a thousand files.
func TestAFolderIsListedWhole(t *testing.T) {
	l := folder(t)
	want := []string{"a-b", "a.d/x"}
	for i := range 1100 {
		want = append(want, fmt.Sprintf("a/%04d", i))
	}
	for _, key := range want {
		name := filepath.Join(l.folder, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, keysOf(t, l, "")); diff != "" {
		t.Error(diff)
	}
}

func TestStoresListInTheOrderOfKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bucket := memory(t)
		dir, err := os.MkdirTemp("", "bulk-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		l, err := Open(context.Background(), "file://"+dir, false)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		prefix := rapid.SampledFrom([]string{"", "a", "a/", "a/b", "b.jpg/", "-"}).Draw(t, "prefix")
		for _, key := range drawKeys(t) {
			if !usable(key) || l.Write(context.Background(), key, "text/plain", []byte("x")) != nil {
				continue // a file where another key wants a folder
			}
			put(t, bucket, map[string]string{key: "x"})
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		for _, store := range []Store{bucket, l} {
			if diff := cmp.Diff(want, keysOf(t, store, prefix)); diff != "" {
				t.Fatalf("%v: %s", store, diff)
			}
		}
	})
}

func TestWhatAFolderLeavesOut(t *testing.T) {
	l := folder(t)
	at := func(name string) string { return filepath.Join(l.folder, name) }
	err := errors.Join(
		os.WriteFile(at("a.jpg"), []byte("x"), 0o600),
		os.WriteFile(at("a.jpg.18a1b2c3d4e5f607.tmp"), []byte("x"), 0o600),
		os.WriteFile(at("a.jpg.attrs"), []byte("x"), 0o600),
		os.Symlink("a.jpg", at("link.jpg")), os.Symlink("nowhere", at("broken.jpg")), os.Symlink(".", at("circle")),
		unix.Mkfifo(at("pipe"), 0o600), os.Mkdir(at("empty"), 0o755),
	)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.jpg", "link.jpg"}, keysOf(t, l, "")); diff != "" {
		t.Error(diff)
	}
	if err := os.RemoveAll(l.folder); err != nil {
		t.Fatal(err)
	}
	if err := l.List(t.Context(), "", func(Object) error { return nil }); err == nil {
		t.Error("a folder that is gone is listed as empty")
	}
}

func TestReadingAndWriting(t *testing.T) {
	for name, l := range map[string]*Location{"folder": folder(t), "bucket": memory(t)} {
		t.Run(name, func(t *testing.T) {
			put(t, l, map[string]string{"sub/a": "12345", "none": ""})
			into, err := l.Read(t.Context(), "sub/a", 5, []byte("0"))
			if string(into) != "012345" || err != nil {
				t.Errorf("%q, %v", into, err)
			}
			if into, err := l.Read(t.Context(), "none", 5, nil); len(into) != 0 || err != nil {
				t.Errorf("%q, %v", into, err)
			}
			if _, err := l.Read(t.Context(), "sub/a", 4, nil); !errors.Is(err, ErrTooLong) {
				t.Errorf("too long: %v", err)
			}
			if _, err := l.Read(t.Context(), "sub/b", 4, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("not there: %v", err)
			}
			if size, err := l.Size(t.Context(), "sub/a"); size != 5 || err != nil {
				t.Errorf("size %d, %v", size, err)
			}
			if _, err := l.Size(t.Context(), "sub"); !errors.Is(err, ErrNotFound) {
				t.Errorf("size of a folder: %v", err)
			}
			// Cut short, a write leaves what was there, and nothing beside it.
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := l.Write(ended, "sub/a", "text/plain", []byte("67890")); err == nil {
				t.Error("a write without time went well")
			}
			into, err = l.Read(t.Context(), "sub/a", 5, nil)
			if keys := keysOf(t, l, ""); string(into) != "12345" || err != nil || len(keys) != 2 {
				t.Errorf("%q, %v, beside %q", into, err, keys)
			}
			if l.folder != "" {
				if left, _ := filepath.Glob(l.folder + "/*/*.tmp"); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			}
		})
	}
}

func TestSweepTakesOnlyWhatTheDeadLeft(t *testing.T) {
	l := folder(t)
	now := time.Now()
	temporary := func(name string, made time.Time) *os.File {
		file, err := os.Create(filepath.Join(l.folder, fmt.Sprintf("%s.%x.tmp", name, made.UnixNano())))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	_ = temporary("dead.webp", now.Add(-time.Hour)).Close()
	_ = temporary("young.webp", now.Add(time.Second)).Close()
	living := temporary("living.webp", now.Add(-time.Hour))
	if err := markAlive(func(as any) bool { *as.(**os.File) = living; return true }); err != nil {
		t.Fatal(err)
	}
	put(t, l, map[string]string{"a.tmp": "x", "b.webp": "x"})
	removed, err := l.Sweep(t.Context(), now)
	entries, _ := os.ReadDir(l.folder)
	var left []string
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry.Name(), ".")
		left = append(left, name)
	}
	if diff := cmp.Diff([]string{"a", "b", "living", "young"}, left); diff != "" || removed != 1 || err != nil {
		t.Errorf("removed %d, %v; %s", removed, err, diff)
	}
}

func TestInputAndOutputApart(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "photos", "small"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("photos", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ in, out, except, want string }{
		{base + "/photos", base + "/small", "", ""},
		{base + "/photos", base + "/photos-small", "", ""},
		{base + "/photos", base + "/photos/small", "small/", ""},
		{base + "/photos", base + "/photos", "", "are the same"},
		{base + "/photos", "file://" + base + "/link", "", "are the same"},
		{base + "/photos", base, "", "lies in the output"},
		{base + "/photos", "s3://photos", "", ""},
		{"s3://b?prefix=photos", "s3://b?prefix=small/", "", ""},
		{"s3://b?prefix=photos", "s3://b?prefix=photos-small/", "", ""},
		{"s3://b", "s3://b?prefix=small/", "small/", ""},
		{"s3://b?prefix=photos", "s3://b?prefix=photos/&region=eu-west-1", "", "are the same"},
		{"s3://b?prefix=photos", "s3://b", "", "lies in the output"},
		{"s3://b", "s3://c", "", ""},
	} {
		in, err := Open(t.Context(), test.in, false)
		if err != nil {
			t.Fatal(err)
		}
		out, err := Open(t.Context(), test.out, true)
		if err != nil {
			t.Fatal(err)
		}
		except, err := Apart(in, out)
		if except != test.except || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s and %s: %q, %v", test.in, test.out, except, err)
		}
		_, _ = in.Close(), out.Close()
	}
}

func TestLocationsThatCannotBeOpened(t *testing.T) {
	for location, want := range map[string]string{
		"":                       "no folder or bucket is named",
		"/nonexistent":           "/nonexistent",
		"ftp://host/photos":      "want a folder's path",
		"file:///tmp?metadata=x": "no parameters",
		"file://host/tmp":        "want file:///path",
		"s3://bucket/photos":     "with what is below the bucket as the prefix",
		"s3://":                  "want s3://bucket",
		"s3://bucket?colour=red": "colour",
		"s3://b:%zz?prefix=x":    "invalid",
	} {
		if _, err := Open(t.Context(), location, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", location, err, want)
		}
	}
}

// The driver for S3 is there and asks where it is told: a whole store in its
// place is another test's.
func TestS3IsAskedWithThePrefix(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("prefix"))
		_, _ = fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>`+
			`<Contents><Key>photos/a.jpg</Key><Size>7</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents></ListBucketResult>`)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
		http.DefaultClient.CloseIdleConnections()
	})
	l, err := Open(t.Context(), fmt.Sprintf("s3://b?prefix=photos&region=eu-central-1&use_path_style=true&endpoint=http://%s", listener.Addr()), false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if keys := keysOf(t, l, ""); !slices.Equal(keys, []string{"a.jpg"}) || !slices.Equal(asked, []string{"GET /b photos/"}) {
		t.Errorf("keys %q, asked %q", keys, asked)
	}
}

// A disk that is full in the middle of an output leaves no half of it.
func TestAWriteThatFailsHalfWayLeavesNothing(t *testing.T) {
	l := folder(t)
	put(t, l, map[string]string{"a.webp": "whole"})
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &usual); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1000, Max: usual.Max}); err != nil {
		t.Fatal(err)
	}
	err := l.Write(t.Context(), "a.webp", "image/webp", make([]byte, 5000))
	if restored := unix.Setrlimit(unix.RLIMIT_FSIZE, &usual); restored != nil {
		t.Fatal(restored)
	}
	if !errors.Is(err, unix.EFBIG) {
		t.Errorf("the write: %v", err)
	}
	into, err := l.Read(t.Context(), "a.webp", 10_000, nil)
	if entries, _ := os.ReadDir(l.folder); string(into) != "whole" || err != nil || len(entries) != 1 {
		t.Errorf("there are %d bytes (%v), in %v", len(into), err, entries)
	}
}
