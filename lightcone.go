package lightcone

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"time"
)

// TenantID names a customer: 1 to 63 lower-case letters, digits and hyphens,
// starting with a letter.
type TenantID string

// FunctionName names a function, under the same rule as TenantID: both appear
// in URLs, file names and Consul keys.
type FunctionName string

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

const nameRule = "want 1 to 63 lower-case letters, digits or hyphens, starting with a letter"

// Validate says whether the tenant's name may be used.
func (t TenantID) Validate() error {
	if !namePattern.MatchString(string(t)) {
		return fmt.Errorf("tenant %q: %s", string(t), nameRule)
	}
	return nil
}

// Validate says whether the function's name may be used.
func (f FunctionName) Validate() error {
	if !namePattern.MatchString(string(f)) {
		return fmt.Errorf("function %q: %s", string(f), nameRule)
	}
	return nil
}

// CallID names one call for ever: in the answer's X-Call-Id, in logs, in usage
// records and on the bill. It is a ULID (github.com/ulid/spec): 48 bits of Unix
// milliseconds and 80 random bits, so ids sort by the time the call arrived.
type CallID [16]byte

// crockford is the alphabet of the ULID specification: no I, L, O or U.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewCallID makes the id of a call that arrived at now. Its only error is that
// of reading ten bytes from random.
func NewCallID(now time.Time, random io.Reader) (CallID, error) {
	var id CallID
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(now.UnixMilli()))
	copy(id[:6], stamp[2:])
	if _, err := io.ReadFull(random, id[6:]); err != nil {
		return CallID{}, fmt.Errorf("call id: read randomness: %w", err)
	}
	return id, nil
}

// String is the id's 26 characters as the ULID specification writes them: the
// 128 bits as a number, so two zero bits stand in front.
func (id CallID) String() string {
	var text [26]byte
	high := binary.BigEndian.Uint64(id[:8])
	low := binary.BigEndian.Uint64(id[8:])
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = crockford[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return string(text[:])
}

// ParseCallID reads an id exactly as String writes it: 26 characters in upper case,
// the first at most 7, for an id has 128 bits. The specification reads lower case,
// too; here each id is written in one way, so that it is one address and one subject.
func ParseCallID[T ~string | ~[]byte](text T) (CallID, error) {
	if len(text) != 26 || text[0] > '7' {
		return CallID{}, badCallID(string(text[:min(len(text), 64)]))
	}
	var high, low uint64
	for i := range len(text) {
		digit := crockfordValues[text[i]]
		if digit < 0 {
			return CallID{}, badCallID(string(text))
		}
		high = high<<5 | low>>59
		low = low<<5 | uint64(digit)
	}
	var id CallID
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id, nil
}

func badCallID(text string) error {
	return fmt.Errorf("call id %q: want 26 digits and upper-case letters without I, L, O and U, the first at most 7", text)
}

// crockfordValues are the values of the alphabet's characters; -1 for all others.
var crockfordValues = func() (values [256]int8) {
	for i := range values {
		values[i] = -1
	}
	for value, character := range []byte(crockford) {
		values[character] = int8(value)
	}
	return values
}()

// Time is when the call arrived, to the millisecond.
func (id CallID) Time() time.Time {
	var stamp [8]byte
	copy(stamp[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(stamp[:])))
}

// Digest is the SHA-256 of some bytes: of a key's secret, of a call's input.
type Digest [sha256.Size]byte

// DigestOf digests data.
func DigestOf(data []byte) Digest { return sha256.Sum256(data) }

// String is the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText is String, for documents.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(d) {
		return fmt.Errorf("digest %q: want %d hexadecimal digits", text, 2*len(d))
	}
	copy(d[:], raw)
	return nil
}

// Usage is what one call used, as it is billed.
type Usage struct {
	CPU      time.Duration // CPU time of the function's process, all its threads, from the kernel's clock
	BytesIn  int64         // length of the request's body
	BytesOut int64         // length of the answer's body
}

// NoLimit is a Quota's field that limits nothing; every negative number does.
const NoLimit = -1

// Quota is what a tenant may use. In each field 0 allows nothing; see NoLimit.
type Quota struct {
	CallsPerSecond  float64       // the sustained rate
	Burst           int           // calls that may come at once; below 0: as many as the rate allows in a second, rounded up
	ConcurrentCalls int           // calls between their headers and their answers
	CPUPerMonth     time.Duration // CPU time of functions in a calendar month, UTC
	BytesPerMonth   int64         // bytes in and out in a calendar month, UTC
}

// Unlimited is the quota that refuses nothing.
var Unlimited = Quota{CallsPerSecond: NoLimit, Burst: NoLimit, ConcurrentCalls: NoLimit, CPUPerMonth: NoLimit, BytesPerMonth: NoLimit}
