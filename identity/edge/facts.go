package edge

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unique"

	"lightcone"
	"lightcone/identity"
)

// keyFacts are what calls need of a key's document.
type keyFacts struct {
	digest  lightcone.Digest
	tenant  lightcone.TenantID
	scopes  scopes
	expires int64 // Unix nanoseconds; 0 = never, longAgo = it was revoked
}

const longAgo = math.MinInt64

// tenantFacts are what calls need of a tenant's document.
type tenantFacts struct {
	quota    lightcone.Quota
	disabled bool
}

// scopes are function names between commas, or a star for all, kept once however
// many keys have the same. A function's name has neither.
type scopes struct{ list unique.Handle[string] }

const allFunctions = "*"

func scopesOf(s identity.Scopes) scopes {
	if s.All {
		return scopes{unique.Make(allFunctions)}
	}
	names := make([]string, len(s.Functions))
	for i, name := range s.Functions {
		names[i] = string(name)
	}
	slices.Sort(names)
	return scopes{unique.Make(strings.Join(names, ","))}
}

func (s scopes) allow(function lightcone.FunctionName) bool {
	list := s.list.Value()
	for list != "" && list != allFunctions {
		var name string
		if name, list, _ = strings.Cut(list, ","); name == string(function) {
			return true
		}
	}
	return list == allFunctions
}

func decodeKey(id keyID, value []byte) (keyFacts, error) {
	var r identity.Record
	if err := json.Unmarshal(value, &r); err != nil {
		return keyFacts{}, err
	}
	if keyIDOf(r.ID) != id {
		return keyFacts{}, fmt.Errorf("it is about the key %s", r.ID)
	}
	facts := keyFacts{digest: r.Digest, tenant: r.Tenant, scopes: scopesOf(r.Scopes)}
	switch {
	case r.Revoked:
		facts.expires = longAgo
	case r.Expires.IsZero():
	case r.Expires.After(time.Unix(0, math.MaxInt64)): // and so beyond what nanoseconds can say
		facts.expires = math.MaxInt64
	default:
		facts.expires = max(1, r.Expires.UnixNano())
	}
	return facts, nil
}

func decodeTenant(id lightcone.TenantID, value []byte) (tenantFacts, error) {
	var t identity.Tenant
	if err := json.Unmarshal(value, &t); err != nil {
		return tenantFacts{}, err
	}
	if t.ID != id {
		return tenantFacts{}, fmt.Errorf("it is about the tenant %s", t.ID)
	}
	return tenantFacts{quota: t.Quota, disabled: t.Disabled}, nil
}
