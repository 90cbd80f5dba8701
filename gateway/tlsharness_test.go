package gateway

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const testHost = "lightcone.test"

// issue makes a self-signed certificate with the serial number given, as PEM.
func issue(t testing.TB, serial int64, expires time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: testHost}, DNSNames: []string{testHost},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: expires,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// writePair writes a new certificate and its key into folder, and returns both files' names.
func writePair(t testing.TB, folder string, serial int64) (certificateFile, keyFile string) {
	t.Helper()
	certificate, key := issue(t, serial, time.Now().Add(time.Hour))
	certificateFile, keyFile = filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	write(t, certificateFile, certificate)
	write(t, keyFile, key)
	return certificateFile, keyFile
}

func write(t testing.TB, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// trusting is a client's configuration that trusts the certificates in the files.
func trusting(t testing.TB, files ...string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil || !pool.AppendCertsFromPEM(text) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return &tls.Config{RootCAs: pool, ServerName: testHost}
}

// secureDoor is a gateway's TLS listener, and a client for it.
type secureDoor struct {
	address     string
	certificate *Certificate
	client      *tls.Config
}

// serveTLS opens a second listener of the gateway, for TLS.
func (s *served) serveTLS(t testing.TB, logs io.Writer) *secureDoor {
	t.Helper()
	certificateFile, keyFile := writePair(t, t.TempDir(), 1)
	certificate, err := NewCertificate(certificateFile, keyFile, slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ServeTLS(listener, certificate) }()
	t.Cleanup(func() {
		s.stop(t)
		if err := <-ended; err != nil {
			t.Errorf("serve TLS: %v", err)
		}
	})
	return &secureDoor{listener.Addr().String(), certificate, trusting(t, certificateFile)}
}

// dial opens a connection and does the handshake.
func (d *secureDoor) dial(t testing.TB) *raw {
	t.Helper()
	conn, err := tls.Dial("tcp", d.address, d.client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.NetConn().Close() }) // Close would wait for a gateway that is gone
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &raw{conn, t, bufio.NewReader(conn)}
}

// post calls the function echo.
func (d *secureDoor) post(t testing.TB, client *http.Client, body io.Reader) *reply {
	t.Helper()
	request, err := http.NewRequest("POST", "https://"+d.address+"/function/echo", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testKey)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readReply(response)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// newClient is an HTTP client for the door, which keeps its connections until the test's end.
func (d *secureDoor) newClient(t testing.TB) *http.Client {
	transport := &http.Transport{TLSClientConfig: d.client.Clone(), MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: patience, Transport: transport}
}

// throughBoth runs a test against the gateway's plain listener, and one for TLS.
func (s *served) throughBoth(t *testing.T, test func(t *testing.T, dial func(testing.TB) *raw)) {
	door := s.serveTLS(t, io.Discard)
	t.Run("plain", func(t *testing.T) { test(t, s.dial) })
	t.Run("TLS", func(t *testing.T) { test(t, door.dial) })
}

// halfClose ends what the client sends.
func (r *raw) halfClose() {
	r.t.Helper()
	if err := r.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		r.t.Fatal(err)
	}
}
