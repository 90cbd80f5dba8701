package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone/internal/testbed"
)

// serial is the number of the certificate that a new connection is shown.
func (d *secureDoor) serial(t testing.TB) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// lookNow has the next handshake look at the files.
func (d *secureDoor) lookNow() {
	d.certificate.looking.Lock()
	defer d.certificate.looking.Unlock()
	d.certificate.looked = time.Time{}
}

// TestCertificateIsReplaced in all the ways that certificates are, while calls run on
// old and new connections: new ones see the new certificate, and no call fails.
func TestCertificateIsReplaced(t *testing.T) {
	s := serve(t, 4, echo, func(c *Config) { c.MaxWait = time.Minute })
	var logs testbed.Log
	door := s.serveTLS(t, &logs)
	door.client = &tls.Config{InsecureSkipVerify: true} // the certificates are looked at one by one
	live := filepath.Dir(door.certificate.certificateFile)

	var calls sync.WaitGroup
	var done atomic.Bool
	defer calls.Wait()
	defer done.Store(true)
	for i := range 3 {
		calls.Go(func() {
			client := door.newClient(t)
			client.Transport.(*http.Transport).DisableKeepAlives = i == 0
			for !done.Load() {
				if got := door.post(t, client, strings.NewReader("on")); got.status != 200 || got.body != "on" {
					t.Errorf("during the replacements: %d", got.status)
				}
			}
		})
	}
	old := door.dial(t)
	next := int64(1)
	expect := func(how string) {
		t.Helper()
		eventually(t, how+": new connections see the new certificate", func() bool { return door.serial(t) == next })
		old.say("POST /function/echo HTTP/1.1\nKEY\nContent-Length: 3\n\nold")
		if got := old.hear(); got.status != 200 || got.body != "old" {
			t.Errorf("%s: the old connection: %d", how, got.status)
		}
	}
	expect("at the start")

	next++
	staged := t.TempDir()
	certificateFile, keyFile := writePair(t, staged, next)
	rename(t, keyFile, filepath.Join(live, "tls.key"))
	rename(t, certificateFile, filepath.Join(live, "tls.crt"))
	expect("renamed over the old")

	next++
	writePair(t, live, next)
	expect("written over the old")

	// As Kubernetes does: the files are links through a folder that is a link.
	for generation := range 2 {
		folder := filepath.Join(live, fmt.Sprint("generation", generation))
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		next++
		writePair(t, folder, next)
		link(t, folder, filepath.Join(live, "..data"))
		if generation == 0 {
			link(t, filepath.Join("..data", "tls.crt"), filepath.Join(live, "tls.crt"))
			link(t, filepath.Join("..data", "tls.key"), filepath.Join(live, "tls.key"))
		}
		expect("behind a swapped link")
	}
	if strings.Contains(logs.String(), "PRIVATE") {
		t.Error("the log shows a key")
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// link makes a symbolic link, over what is there, at once.
func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".new"); err != nil {
		t.Fatal(err)
	}
	rename(t, name+".new", name)
}

// TestBadPairKeepsTheOld certificate in use, and is said once.
func TestBadPairKeepsTheOld(t *testing.T) {
	s := serve(t, 1, echo, nil)
	var logs testbed.Log
	door := s.serveTLS(t, &logs)
	certificateFile, keyFile := door.certificate.certificateFile, door.certificate.keyFile
	otherCertificate, otherKey := issue(t, 2, time.Now().Add(time.Hour))
	goodKey, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		what string
		do   func()
	}{
		{"another's key", func() { write(t, keyFile, otherKey) }},
		{"an empty key", func() { write(t, keyFile, nil) }},
		{"no certificate", func() { write(t, keyFile, goodKey); write(t, certificateFile, goodKey) }},
		{"half a certificate", func() { write(t, certificateFile, otherCertificate[:len(otherCertificate)/2]) }},
		{"nothing", func() { _ = os.Remove(certificateFile) }},
	} {
		test.do()
		door.lookNow()
		eventually(t, test.what+" is said", func() bool {
			if got := door.serial(t); got != 1 {
				t.Fatalf("with %s, the certificate is number %d", test.what, got)
			}
			return strings.Count(logs.String(), "cannot be used") == i+1
		})
	}
	for range 3 {
		door.lookNow()
		door.serial(t)
	}
	if n := strings.Count(logs.String(), "cannot be used"); n != 5 {
		t.Errorf("5 failures are said %d times:\n%s", n, logs.String())
	}
	write(t, keyFile, otherKey)
	write(t, certificateFile, otherCertificate)
	door.lookNow()
	eventually(t, "a good pair is used", func() bool { return door.serial(t) == 2 })
	for _, line := range strings.Split(string(otherKey)+string(goodKey), "\n") {
		if len(line) > 20 && strings.Contains(logs.String(), line) {
			t.Error("the log shows a key")
		}
	}
}

func TestNewCertificateNamesWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	certificateFile, keyFile := writePair(t, folder, 1)
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, test := range []struct{ certificate, key, want string }{
		{filepath.Join(folder, "nope"), keyFile, "nope"},
		{certificateFile, filepath.Join(folder, "nope"), "nope"},
		{certificateFile, certificateFile, "tls.crt"},
		{keyFile, keyFile, "tls.key"},
	} {
		if _, err := NewCertificate(test.certificate, test.key, logger); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v", err)
		}
	}
	var logs testbed.Log
	certificate, key := issue(t, 2, time.Now().Add(-time.Hour))
	write(t, certificateFile, certificate)
	write(t, keyFile, key)
	if _, err := NewCertificate(certificateFile, keyFile, slog.New(slog.NewTextHandler(&logs, nil))); err != nil || !strings.Contains(logs.String(), "level=WARN") {
		t.Errorf("an expired certificate: %v, and the log says %s", err, logs.String())
	}
}
