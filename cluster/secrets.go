package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// secrets are made for each cluster. They live in its agents' configurations and,
// for the operator, in files; all of them readable by their owner alone.
type secrets struct {
	Gossip           string // encrypts what agents tell each other
	ConsulManagement string // the operator's Consul token, and the Consul server's own
	ConsulAgent      string // Consul clients register their nodes with it
	NomadServer      string // the Nomad server's Consul token
	NomadClient      string // the Nomad clients'
}

func newSecrets() secrets {
	return secrets{Gossip: base64.StdEncoding.EncodeToString(random(32)), ConsulManagement: uuid()}
}

// random is n bytes that nobody can guess.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// uuid is a random UUID, version 4: what Consul wants as a token (RFC 9562, 5.4).
func uuid() string {
	b := random(16)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
