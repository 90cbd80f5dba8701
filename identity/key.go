package identity

import (
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"lightcone"
)

// A key reads lc_<id>_<secret>. The prefix lets secret scanners recognise a
// leaked one.
const (
	keyPrefix    = "lc_"
	idBytes      = 10 // 80 bits: ids never collide by chance
	secretBytes  = 32
	idLength     = 16 // idBytes in base32
	secretLength = 43 // secretBytes in base64url without padding
	keyLength    = len(keyPrefix) + idLength + 1 + secretLength
)

var (
	idEncoding     = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	secretEncoding = base64.RawURLEncoding

	errMalformedKey = errors.New("the key is malformed: want lc_<id>_<secret> with 16 and 43 characters")
)

// KeyID is the public part of a key: 16 characters of a-z and 2-7. It may be
// logged and listed.
type KeyID string

// Validate says whether the id is well-formed.
func (id KeyID) Validate() error {
	if len(id) != idLength {
		return fmt.Errorf("key id %q: want %d characters", string(id), idLength)
	}
	for i := range len(id) {
		if !isIDCharacter(id[i]) {
			return fmt.Errorf("key id %q: want only a-z and 2-7", string(id))
		}
	}
	return nil
}

// Key is a whole key, secret included. It exists where a key is made or
// presented; nothing stores one. Printing it shows the id alone: Text is the
// only way to the secret.
type Key struct {
	id     [idLength]byte
	secret [secretLength]byte
}

// NewKey makes a key from 42 bytes of random. Its only error is that of reading them.
func NewKey(random io.Reader) (Key, error) {
	var key Key
	var raw [idBytes + secretBytes]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Key{}, fmt.Errorf("new key: read randomness: %w", err)
	}
	idEncoding.Encode(key.id[:], raw[:idBytes])
	secretEncoding.Encode(key.secret[:], raw[idBytes:])
	return key, nil
}

// ParseKey reads a key's text. The error never repeats what was presented: it
// may be most of a real secret.
func ParseKey(text []byte) (Key, error) {
	var key Key
	if len(text) != keyLength || string(text[:len(keyPrefix)]) != keyPrefix || text[len(keyPrefix)+idLength] != '_' {
		return Key{}, errMalformedKey
	}
	copy(key.id[:], text[len(keyPrefix):])
	copy(key.secret[:], text[keyLength-secretLength:])
	for _, c := range key.id {
		if !isIDCharacter(c) {
			return Key{}, errMalformedKey
		}
	}
	for _, c := range key.secret {
		if !isSecretCharacter(c) {
			return Key{}, errMalformedKey
		}
	}
	return key, nil
}

// ID is the key's public part.
func (k Key) ID() KeyID { return KeyID(k.id[:]) }

// Text is the whole key as its holder presents it. Show it once, to them.
func (k Key) Text() string {
	return keyPrefix + string(k.id[:]) + "_" + string(k.secret[:])
}

// Digest is what is kept of the secret: the SHA-256 of its 43 characters. The
// secret has 256 bits of entropy, so a slow password hash would add nothing.
func (k Key) Digest() lightcone.Digest { return lightcone.DigestOf(k.secret[:]) }

// Opens says whether presented is this key. It takes as long for a wrong secret as
// for the right one.
func (k Key) Opens(presented []byte) bool {
	other, err := ParseKey(presented)
	mine, theirs := k.Digest(), other.Digest()
	return err == nil && other.id == k.id && subtle.ConstantTimeCompare(mine[:], theirs[:]) == 1
}

// String is the key with its secret left out, for logs.
func (k Key) String() string { return keyPrefix + string(k.id[:]) + "_…" }

// Format keeps the secret out of every verb of package fmt, %#v included.
func (k Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

func isIDCharacter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '2' && c <= '7'
}

// secretCharacters is a table because a key is read on every call.
var secretCharacters = func() (table [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		table[c] = true
	}
	return table
}()

func isSecretCharacter(c byte) bool { return secretCharacters[c] }
