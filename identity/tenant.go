package identity

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"lightcone"
)

// Tenant is a customer, as the management plane keeps it.
type Tenant struct {
	ID       lightcone.TenantID
	Name     string // for people; up to 200 bytes
	Disabled bool   // all its keys are refused
	Quota    lightcone.Quota
	Created  time.Time
}

const longestName = 200 // bytes

// Validate names the first field that cannot be used.
func (t Tenant) Validate() error {
	if err := t.ID.Validate(); err != nil {
		return err
	}
	if len(t.Name) > longestName || !utf8.ValidString(t.Name) {
		return fmt.Errorf("tenant %s: the name has %d bytes: want at most %d, of UTF-8", t.ID, len(t.Name), longestName)
	}
	return nil
}

// Where the planes find each other's documents, below a prefix of the identity's
// own. Every change of a tenant or a key comes with a new entry of the audit trail
// in the same commit, so that whoever follows AuditHead hears of everything.
const (
	tenantsPrefix = "tenants/"
	keysPrefix    = "keys/"
	ownedPrefix   = "owned/"
	auditPrefix   = "audit/entries/"

	// AuditHead is the path of the end of the audit trail.
	AuditHead = "audit/head"
)

// TenantPath is where a tenant's document is; TenantPath("") is all tenants' prefix.
func TenantPath(id lightcone.TenantID) string { return tenantsPrefix + string(id) }

// KeyPath is where a key's document is; KeyPath("") is all keys' prefix.
func KeyPath(id KeyID) string { return keysPrefix + string(id) }

// OwnedPath is where it is noted, without a value, that the tenant has the key;
// with an empty id it is the prefix of all the tenant's keys.
func OwnedPath(tenant lightcone.TenantID, id KeyID) string {
	return ownedPrefix + string(tenant) + "/" + string(id)
}

// AuditPath is where an entry of the audit trail is. Entries count from 1; their
// paths sort by number.
func AuditPath(sequence uint64) string {
	digits := strconv.FormatUint(sequence, 10)
	return auditPrefix + "00000000000000000000"[len(digits):] + digits
}
