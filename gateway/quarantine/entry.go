package quarantine

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lightcone"
	"lightcone/functions"
)

const (
	deadlyStrikes = 2 // so many killed slots put an input into quarantine
	mostCalls     = 4 // whose ids an Entry keeps: two, and what other gateways saw at the same time

	longestExpiry = 30 * 24 * time.Hour
	mostEntry     = 4 << 10 // bytes of an Entry's document
)

// Entry is an input that has killed slots, as it is stored and as the management
// listener shows it. Neither the input nor its query can be read from it.
type Entry struct {
	Digest    lightcone.Digest       `json:"digest"` // see DigestOf
	Function  lightcone.FunctionName `json:"function"`
	Tenant    lightcone.TenantID     `json:"tenant"`       // whose calls they were, and whose input it is: others may run theirs
	BodyBytes int                    `json:"body_bytes"`   // the input's length
	Query     lightcone.Digest       `json:"query_sha256"` // of the query string
	Calls     []string               `json:"calls"`        // whose slots it killed, oldest first: ids, with -N for a queued call's attempt N; at most 4
	First     time.Time              `json:"first_at"`     // when a slot was killed first
	Last      time.Time              `json:"last_at"`      // and last
	Expires   time.Time              `json:"expires_at"`   // when all this is forgotten
}

// DigestOf names a tenant's input: the SHA-256 over the tenant, the function's name,
// the query, the content type, what the call accepts (it chooses the encoder) and the
// body, each behind its length in eight bytes, the most significant first, so that no
// two inputs run into one another. The tenant is part of it because a crash is charged
// to whatever input runs: nobody can have another's input refused. It costs about half
// a microsecond for each KiB of the body.
func DigestOf(call *functions.Call) lightcone.Digest {
	hash := sha256.New()
	for _, part := range [][]byte{[]byte(call.Tenant), []byte(call.Function), call.Query, call.ContentType, call.Accept, call.Body} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:]) // a hash's Write has no error
		hash.Write(part)
	}
	return lightcone.Digest(hash.Sum(nil))
}

// strikeOf is the Entry of a call that has killed its slot now.
func strikeOf(call *functions.Call, now time.Time, expiry time.Duration) Entry {
	now = now.UTC().Round(0) // without the monotonic clock, which documents do not have
	return Entry{
		Digest: DigestOf(call), Function: call.Function, Tenant: call.Tenant,
		BodyBytes: len(call.Body), Query: lightcone.DigestOf(call.Query),
		Calls: []string{strikeName(call)},
		First: now, Last: now, Expires: now.Add(expiry),
	}
}

// strikeName tells killed slots apart: a call whose caller waits has one, a queued call
// may have one for each attempt.
func strikeName(call *functions.Call) string {
	if call.Attempt == 0 {
		return call.ID.String()
	}
	return call.ID.String() + "-" + strconv.Itoa(call.Attempt)
}

// isStrikeName says whether text may come from strikeName.
func isStrikeName(text string) bool {
	id, attempt, queued := strings.Cut(text, "-")
	if len(id) != len(lightcone.CallID{}.String()) || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return false
	}
	number, err := strconv.ParseUint(attempt, 10, 32)
	return !queued || err == nil && number > 0
}

// deadly is whether the input belongs into quarantine.
func (e Entry) deadly() bool { return len(e.Calls) >= deadlyStrikes }

func (e Entry) expired(now time.Time) bool { return !now.Before(e.Expires) }

// merge is what a and b, of the same input, say together. The order of merging
// does not matter, and merging one twice changes nothing: so a strike that
// may have been written or not can be written again.
func merge(a, b Entry) Entry {
	if c := a.Last.Compare(b.Last); c > 0 || c == 0 && a.Tenant > b.Tenant {
		a, b = b, a
	}
	b.Calls = slices.Concat(a.Calls, b.Calls)
	slices.Sort(b.Calls) // they begin with their time
	b.Calls = slices.Compact(b.Calls)
	b.Calls = b.Calls[:min(len(b.Calls), mostCalls)]
	if a.First.Before(b.First) {
		b.First = a.First
	}
	if a.Expires.After(b.Expires) {
		b.Expires = a.Expires
	}
	return b
}

// encode is the entry's document.
func (e Entry) encode() []byte {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // its times come from the clock or from documents, and have four-digit years
	}
	return text
}

// decode reads the document of the input with the given digest.
func decode(digest lightcone.Digest, text []byte) (Entry, error) {
	var e Entry
	if len(text) > mostEntry {
		return e, fmt.Errorf("it has %d bytes, more than an entry's %d", len(text), mostEntry)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return Entry{}, err
	}
	if e.Digest != digest {
		return Entry{}, fmt.Errorf("it is about the input %v", e.Digest)
	}
	return e, e.validate()
}

// validate names what cannot be right.
func (e Entry) validate() error {
	if err := cmp.Or(e.Function.Validate(), e.Tenant.Validate()); err != nil {
		return err
	}
	switch {
	case e.BodyBytes < 0:
		return fmt.Errorf("body_bytes is %d: want 0 or more", e.BodyBytes)
	case len(e.Calls) == 0 || len(e.Calls) > mostCalls || !slices.IsSorted(e.Calls):
		return fmt.Errorf("calls are %q: want 1 to %d ids, oldest first", e.Calls, mostCalls)
	case e.Last.Before(e.First) || e.Expires.Before(e.Last) || e.Expires.Sub(e.First) > longestExpiry:
		return fmt.Errorf("first_at %v, last_at %v and expires_at %v: want them in this order and within %v", e.First, e.Last, e.Expires, longestExpiry)
	}
	for _, id := range e.Calls {
		if !isStrikeName(id) {
			return fmt.Errorf("calls hold %q, which is no call's id and attempt", id)
		}
	}
	return nil
}
