package management

import (
	"encoding/json"
	"time"

	"lightcone"
	"lightcone/identity"
)

// KeyDocument is a key as the management API shows it: without its secret's digest.
type KeyDocument struct {
	ID      identity.KeyID     `json:"id"`
	Tenant  lightcone.TenantID `json:"tenant"`
	Scopes  identity.Scopes    `json:"scopes"`
	Created time.Time          `json:"created_at"`
	Expires *time.Time         `json:"expires_at,omitempty"` // nil = never
	Revoked bool               `json:"revoked"`
}

func keyDocumentOf(r identity.Record) KeyDocument {
	d := KeyDocument{ID: r.ID, Tenant: r.Tenant, Scopes: r.Scopes, Created: r.Created, Revoked: r.Revoked}
	if !r.Expires.IsZero() {
		d.Expires = &r.Expires
	}
	return d
}

// issuedDocument is the one answer that shows a key.
type issuedDocument struct {
	Key string `json:"key"`
	KeyDocument
}

// callbackSecretDocument is what a tenant verifies its callbacks with.
type callbackSecretDocument struct {
	Secret string `json:"callback_secret"`
}

// Pages of lists. Next, where there is more, is the after of the next page.
type (
	tenantsPage struct {
		Tenants []identity.Tenant  `json:"tenants"`
		Next    lightcone.TenantID `json:"next,omitempty"`
	}
	keysPage struct {
		Keys []KeyDocument  `json:"keys"`
		Next identity.KeyID `json:"next,omitempty"`
	}
	auditPage struct {
		Entries []json.RawMessage `json:"entries"` // as they are stored
		Next    uint64            `json:"next,omitempty"`
	}
)
