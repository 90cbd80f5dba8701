package management

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
)

// Kinds of problems that only the management plane has.
const (
	Conflict problem.Kind = "conflict"            // caller: it is there already, or somebody else changed it meanwhile
	Stale    problem.Kind = "precondition-failed" // caller: it is no longer as the caller has read it
)

// read is a document as a decision sees it: the zero value is one that is not there.
type read = document.Document

// decision is what a change does to documents; one without changes does nothing.
type decision struct {
	action, subject string
	before, after   []byte            // documents, for the audit trail
	changes         []document.Change // the first is of the document that was read
}

// decide says what becomes of a document that was read so, at a time. It is pure,
// and its errors are problems.
type decide func(found read, at time.Time) (decision, error)

// Edit is what to change of a tenant; what is nil stays.
type Edit struct {
	Name     *string
	Disabled *bool
	Quota    *lightcone.Quota
}

// mostScopes bounds a key's list of functions, and with it the key's document.
const mostScopes = 100

// creating makes a tenant that limits nothing.
func creating(id lightcone.TenantID, name string) decide {
	return func(found read, at time.Time) (decision, error) {
		if found.Version > 0 {
			return decision{}, problem.New(Conflict, "There is a tenant %s already; choose another id.", id).Because(document.ErrConflict)
		}
		tenant := identity.Tenant{ID: id, Name: name, Quota: lightcone.Unlimited, Created: at}
		if err := checkTenant(tenant); err != nil {
			return decision{}, err
		}
		return changing(found, "tenant.create", string(id), identity.TenantPath(id), tenant)
	}
}

// editing changes a tenant. Without an edit that differs from what is there it
// does nothing. A caller who names versions has read one of them.
func editing(id lightcone.TenantID, edit Edit, versions []uint64) decide {
	return func(found read, _ time.Time) (decision, error) {
		if found.Version == 0 {
			return decision{}, noTenant(id)
		}
		if len(versions) > 0 && !slices.Contains(versions, found.Version) {
			return decision{}, problem.New(Stale, "The tenant %s is at version %d now, not as you have read it; read it again.", id, found.Version).Because(document.ErrConflict)
		}
		var was identity.Tenant
		if err := json.Unmarshal(found.Value, &was); err != nil {
			return decision{}, fmt.Errorf("read the document %s: %w", found.Path, err)
		}
		is, action, err := edit.apply(was)
		if err != nil || action == "" {
			return decision{}, err
		}
		return changing(found, action, string(id), found.Path, is)
	}
}

// apply makes the edit, and names what it changes: nothing, one thing, or
// tenant.edit for several.
func (e Edit) apply(t identity.Tenant) (edited identity.Tenant, action string, err error) {
	var actions []string
	if e.Name != nil && *e.Name != t.Name {
		t.Name, actions = *e.Name, append(actions, "tenant.rename")
	}
	if e.Disabled != nil && *e.Disabled != t.Disabled {
		t.Disabled, actions = *e.Disabled, append(actions, map[bool]string{true: "tenant.disable", false: "tenant.enable"}[*e.Disabled])
	}
	if e.Quota != nil {
		quota, err := identity.DocumentOf(*e.Quota).Quota() // as it will be read back
		if err != nil {
			return t, "", bad("%v", err)
		}
		if quota != t.Quota {
			t.Quota, actions = quota, append(actions, "tenant.quota")
		}
	}
	if len(actions) > 1 {
		actions = []string{"tenant.edit"}
	}
	return t, strings.Join(actions, ""), checkTenant(t)
}

// admitting stores a key's record, which has passed checkRecord, and whose it is. The
// same key once more is nothing new.
func admitting(action string, record identity.Record) decide {
	return func(found read, at time.Time) (decision, error) {
		if found.Version > 0 {
			var was identity.Record
			if err := json.Unmarshal(found.Value, &was); err != nil {
				return decision{}, fmt.Errorf("read the document %s: %w", found.Path, err)
			}
			if was.Digest == record.Digest && was.Tenant == record.Tenant {
				return decision{}, nil
			}
			return decision{}, problem.New(Conflict, "There is another key %s already.", record.ID).Because(document.ErrConflict)
		}
		record.Created = at
		d, err := changing(found, action, string(record.ID), identity.KeyPath(record.ID), record)
		d.changes = append(d.changes, document.Change{Path: identity.OwnedPath(record.Tenant, record.ID)})
		return d, err
	}
}

// revoking ends a key for good; its record stays. A revoked key stays as it is.
func revoking(id identity.KeyID) decide {
	return func(found read, _ time.Time) (decision, error) {
		if found.Version == 0 {
			return decision{}, noKey(id)
		}
		var record identity.Record
		if err := json.Unmarshal(found.Value, &record); err != nil {
			return decision{}, fmt.Errorf("read the document %s: %w", found.Path, err)
		}
		if record.Revoked {
			return decision{}, nil
		}
		record.Revoked = true
		return changing(found, "key.revoke", string(id), found.Path, record)
	}
}

// changing is the decision to make found into what is.
func changing(found read, action, subject, path string, is json.Marshaler) (decision, error) {
	after, err := json.Marshal(is)
	if err != nil {
		return decision{}, fmt.Errorf("encode the document %s: %w", path, err)
	}
	return decision{
		action: action, subject: subject, before: found.Value, after: after,
		changes: []document.Change{{Path: path, Value: after, Version: found.Version}},
	}, nil
}

// commitOf is the whole commit of a decision: its documents, the trail's entry
// and the trail's head, which was read at a version.
func commitOf(d decision, actor string, head identity.Head, version uint64, now time.Time) ([]document.Change, error) {
	entry := identity.Entry{Actor: actor, Action: d.action, Subject: d.subject, Before: d.before, After: d.after}
	for _, change := range d.changes {
		entry.Changed = append(entry.Changed, change.Path)
	}
	stored, next, err := head.Next(entry, now)
	if err != nil {
		return nil, err
	}
	end, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encode the head of the audit trail: %w", err)
	}
	return append(slices.Clone(d.changes),
		document.Change{Path: identity.AuditPath(next.Sequence), Value: stored},
		document.Change{Path: identity.AuditHead, Value: end, Version: version}), nil
}

func checkTenant(t identity.Tenant) error {
	if err := t.ID.Validate(); err != nil {
		return bad("id: %v", err)
	}
	if err := t.Validate(); err != nil {
		return bad("name: %v", err)
	}
	if strings.ContainsFunc(t.Name, unicode.IsControl) {
		return bad("name: %q has a control character; leave it out", t.Name)
	}
	return nil
}

// checkRecord is given the clock's time, not the trail's: after a clock that was
// ahead once, that is in the future, and keys may still expire before it.
func checkRecord(r identity.Record, now time.Time) error {
	if err := r.Validate(); err != nil {
		return bad("%v", err) // it names the field
	}
	switch functions := len(r.Scopes.Functions); {
	case !r.Scopes.All && functions == 0:
		return bad("scopes: name at least one function, or * alone for all")
	case functions > mostScopes:
		return bad("scopes: these are %d functions; name at most %d, or * alone for all", functions, mostScopes)
	case !r.Expires.IsZero() && !r.Expires.After(now):
		return bad("expires_at: %s has passed; it is %s", r.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// bad is a problem with what the caller sent, said as a sentence.
func bad(format string, args ...any) *problem.Error {
	found := problem.New(problem.BadParameter, format, args...)
	found.Detail = "This cannot be used: " + found.Detail + "."
	return found
}

// noTenant and noKey repeat an id only if it is one: somebody may have put a whole
// key there.
func noTenant(id lightcone.TenantID) *problem.Error {
	if id.Validate() != nil {
		return problem.New(problem.NotFound, "There is no such tenant: a tenant's id has 1 to 63 lower-case letters, digits or hyphens, and starts with a letter.")
	}
	return problem.New(problem.NotFound, "There is no tenant %s.", id)
}

func noKey(id identity.KeyID) *problem.Error {
	if id.Validate() != nil {
		return problem.New(problem.NotFound, "There is no such key: a key's id is the 16 characters between lc_ and the second underscore.")
	}
	return problem.New(problem.NotFound, "There is no key %s.", id)
}
