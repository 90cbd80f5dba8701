package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookAgain is how long a certificate's files are taken to be as they were.
const lookAgain = time.Second

// Certificate is a listener's certificate and its private key, from two PEM files
// that are followed: replaced ones are used for the handshakes a second later.
// Connections that are open go on with what they have. A pair that does not load, such
// as a new certificate whose key has not been written yet, leaves the old one in use.
//
// The files are looked at through any links, so a folder that is swapped for another,
// as Nomad and Kubernetes do, is seen, too. It is the handshakes that look: without
// any, nothing runs. Any number of listeners may share one.
type Certificate struct {
	certificateFile, keyFile string
	logger                   *slog.Logger
	config                   *tls.Config
	current                  atomic.Pointer[tls.Certificate]

	looking sync.Mutex // held by the handshake that looks at the files
	looked  time.Time
	loaded  [2]os.FileInfo // of what is in current
	failure string         // logged already
}

// NewCertificate reads the certificate, with the intermediate ones behind it, and its
// key. Its error names the file and what is wrong with it, and never shows the key.
func NewCertificate(certificateFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{certificateFile: certificateFile, keyFile: keyFile, logger: logger}
	c.config = &tls.Config{
		GetCertificate: c.get,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		// For TLS 1.2, those with forward secrecy and authenticated encryption; TLS 1.3 has no others.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	c.looked = time.Now()
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// get is the certificate for one handshake: the same for every name asked for.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.looking.TryLock() { // one looks, and the others go on with what there is
		c.look(time.Now())
		c.looking.Unlock()
	}
	return c.current.Load(), nil
}

// look loads the files again if they are others than before.
func (c *Certificate) look(now time.Time) {
	if now.Sub(c.looked) < lookAgain {
		return
	}
	c.looked = now
	err := c.load()
	if err == nil {
		c.failure = ""
	} else if c.failure != err.Error() {
		c.failure = err.Error()
		c.logger.Error("the new certificate cannot be used; the old one stays in use", "error", err)
	}
}

// load takes over the files if they have changed. After a failure it tries them
// again in any case: they may have been read while they were written.
func (c *Certificate) load() error {
	var found [2]os.FileInfo
	changed := c.current.Load() == nil
	for i, name := range []string{c.certificateFile, c.keyFile} {
		var err error
		if found[i], err = os.Stat(name); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		before := c.loaded[i]
		changed = changed || !os.SameFile(before, found[i]) || !before.ModTime().Equal(found[i].ModTime()) || before.Size() != found[i].Size()
	}
	if !changed {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certificateFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with the key %s: %w", c.certificateFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	c.loaded = found
	level := slog.LevelInfo
	if time.Now().After(pair.Leaf.NotAfter) {
		level = slog.LevelWarn
	}
	c.logger.Log(context.Background(), level, "certificate loaded", "file", c.certificateFile, "names", pair.Leaf.DNSNames, "expires", pair.Leaf.NotAfter)
	return nil
}
