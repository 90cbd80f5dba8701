package identity

import (
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
