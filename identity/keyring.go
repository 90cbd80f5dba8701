package identity

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

// Scopes says which functions a key may call.
type Scopes struct {
	All       bool                     // every function, those of tomorrow included
	Functions []lightcone.FunctionName // when All is false, these alone
}

// Allow says whether function is within the scopes.
func (s Scopes) Allow(function lightcone.FunctionName) bool {
	return s.All || slices.Contains(s.Functions, function)
}

// Record is what is kept of one key.
type Record struct {
	ID     KeyID
	Digest lightcone.Digest // of the secret, as Key.Digest makes it
	Tenant lightcone.TenantID
	Scopes Scopes

	Created time.Time
	Expires time.Time // zero = never
	Revoked bool      // for good
}

// Validate names the first field that cannot be used.
func (r Record) Validate() error {
	if err := r.ID.Validate(); err != nil {
		return err
	}
	if err := r.Tenant.Validate(); err != nil {
		return fmt.Errorf("key %s: %w", r.ID, err)
	}
	if r.Scopes.All && len(r.Scopes.Functions) > 0 {
		return fmt.Errorf("key %s: scopes are all functions and also a list: choose one", r.ID)
	}
	for _, function := range r.Scopes.Functions {
		if err := function.Validate(); err != nil {
			return fmt.Errorf("key %s: scopes: %w", r.ID, err)
		}
	}
	return nil
}

// Caller is who presented a key.
type Caller struct {
	Tenant lightcone.TenantID
	Key    KeyID
	scopes Scopes
}

// May is nil when the caller's key allows calling function, else a
// problem.Forbidden that names it.
func (c Caller) May(function lightcone.FunctionName) error {
	if c.scopes.Allow(function) {
		return nil
	}
	return OutOfScope(c.Key, function)
}

// Keyring knows a fixed set of keys. Any number of goroutines may use it.
type Keyring struct {
	records map[KeyID]Record
}

// NewKeyring makes a keyring of records. It fails on a record that does not
// validate and on an id that appears twice.
func NewKeyring(records []Record) (*Keyring, error) {
	byID := make(map[KeyID]Record, len(records))
	for _, record := range records {
		if err := record.Validate(); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		if _, twice := byID[record.ID]; twice {
			return nil, fmt.Errorf("keyring: key %s appears twice", record.ID)
		}
		record.Scopes.Functions = slices.Clone(record.Scopes.Functions)
		byID[record.ID] = record
	}
	return &Keyring{records: byID}, nil
}

// Authenticate finds who presented the key. Malformed, unknown and wrong keys
// all get the same problem.Unauthenticated.
func (k *Keyring) Authenticate(presented []byte) (Caller, error) {
	key, err := ParseKey(presented)
	if err != nil {
		return Caller{}, Unauthenticated()
	}
	// An unknown id is compared too, with the zero digest, so that the time an
	// answer takes does not tell which ids exist.
	record, known := k.records[KeyID(key.id[:])]
	digest := key.Digest()
	same := subtle.ConstantTimeCompare(digest[:], record.Digest[:]) == 1
	if !known || !same {
		return Caller{}, Unauthenticated()
	}
	return Caller{Tenant: record.Tenant, Key: record.ID, scopes: record.Scopes}, nil
}

// Authorize finds whose key was presented and whether it may call function: the
// tenant, or the problem of Authenticate or of Caller.May. A keyring knows of no
// quotas, so they are unlimited.
func (k *Keyring) Authorize(presented []byte, function lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error) {
	caller, err := k.Authenticate(presented)
	if err != nil {
		return "", lightcone.Quota{}, err
	}
	if err := caller.May(function); err != nil {
		return "", lightcone.Quota{}, err
	}
	return caller.Tenant, lightcone.Unlimited, nil
}

// OutOfScope is the problem.Forbidden of a key whose scopes leave function out.
func OutOfScope(key KeyID, function lightcone.FunctionName) *problem.Error {
	return problem.New(problem.Forbidden, "The key %s may not call the function %q; ask for a key whose scopes include it.", key, string(function))
}

// Unauthenticated is the one problem.Unauthenticated of every key that does not
// open, whatever is wrong with it. It is a fresh error each time: callers may add
// to theirs.
func Unauthenticated() *problem.Error {
	return problem.New(problem.Unauthenticated, "The call carries no key that Lightcone knows; send one as: Authorization: Bearer lc_<id>_<secret>.")
}
