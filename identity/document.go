package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"lightcone"
)

// QuotaDocument is a lightcone.Quota as documents and the management API write it:
// what is missing or null limits nothing, 0 allows nothing.
type QuotaDocument struct {
	CallsPerSecond     *float64 `json:"calls_per_second"`
	Burst              *int     `json:"burst"` // missing beside a rate: as many calls as come in a second
	ConcurrentCalls    *int     `json:"concurrent_calls"`
	CPUSecondsPerMonth *float64 `json:"cpu_seconds_per_month"`
	BytesPerMonth      *int64   `json:"bytes_per_month"`
}

const (
	mostRate = 1e9 // calls a second, and seconds of CPU a month: more is a slip of the finger
	mostSize = 1 << 60
)

// Quota is what the document says, or which field cannot be used.
func (d QuotaDocument) Quota() (lightcone.Quota, error) {
	for _, field := range []struct {
		name  string
		value *float64
		most  float64
	}{
		{"calls_per_second", d.CallsPerSecond, mostRate},
		{"burst", float(d.Burst), mostRate},
		{"concurrent_calls", float(d.ConcurrentCalls), mostRate},
		{"cpu_seconds_per_month", d.CPUSecondsPerMonth, mostRate},
		{"bytes_per_month", float(d.BytesPerMonth), mostSize},
	} {
		if v := field.value; v != nil && !(*v >= 0 && *v <= field.most) { // also NaN
			return lightcone.Quota{}, fmt.Errorf("quota: %s is %v: want 0 (nothing) to %v, or leave it out for no limit", field.name, *v, field.most)
		}
	}
	q := lightcone.Unlimited
	if d.CallsPerSecond != nil { // without a rate there is nothing for a burst to be above
		q.CallsPerSecond = *d.CallsPerSecond
		if d.Burst != nil {
			q.Burst = *d.Burst
		}
	}
	if d.ConcurrentCalls != nil {
		q.ConcurrentCalls = *d.ConcurrentCalls
	}
	if d.CPUSecondsPerMonth != nil {
		q.CPUPerMonth = time.Duration(math.Round(*d.CPUSecondsPerMonth * float64(time.Second)))
	}
	if d.BytesPerMonth != nil {
		q.BytesPerMonth = *d.BytesPerMonth
	}
	return q, nil
}

func float[N int | int64](n *N) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

// DocumentOf is the document that says q.
func DocumentOf(q lightcone.Quota) (d QuotaDocument) {
	if q.CallsPerSecond >= 0 {
		d.CallsPerSecond = &q.CallsPerSecond
	}
	if q.Burst >= 0 {
		d.Burst = &q.Burst
	}
	if q.ConcurrentCalls >= 0 {
		d.ConcurrentCalls = &q.ConcurrentCalls
	}
	if q.CPUPerMonth >= 0 {
		seconds := q.CPUPerMonth.Seconds()
		d.CPUSecondsPerMonth = &seconds
	}
	if q.BytesPerMonth >= 0 {
		d.BytesPerMonth = &q.BytesPerMonth
	}
	return d
}

type tenantDocument struct {
	ID       lightcone.TenantID `json:"id"`
	Name     string             `json:"name"`
	Disabled bool               `json:"disabled"`
	Quota    QuotaDocument      `json:"quota"`
	Created  time.Time          `json:"created_at"`
}

// MarshalJSON writes the tenant's document.
func (t Tenant) MarshalJSON() ([]byte, error) {
	return json.Marshal(tenantDocument{ID: t.ID, Name: t.Name, Disabled: t.Disabled, Quota: DocumentOf(t.Quota), Created: t.Created})
}

// UnmarshalJSON reads a tenant's document, and validates it.
func (t *Tenant) UnmarshalJSON(text []byte) error {
	var d tenantDocument
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	quota, err := d.Quota.Quota()
	if err != nil {
		return fmt.Errorf("tenant %q: %w", d.ID, err)
	}
	*t = Tenant{ID: d.ID, Name: d.Name, Disabled: d.Disabled, Quota: quota, Created: d.Created}
	return t.Validate()
}

type recordDocument struct {
	ID      KeyID              `json:"id"`
	SHA256  lightcone.Digest   `json:"sha256"`
	Tenant  lightcone.TenantID `json:"tenant"`
	Scopes  Scopes             `json:"scopes"`
	Created time.Time          `json:"created_at"`
	Expires *time.Time         `json:"expires_at,omitempty"`
	Revoked bool               `json:"revoked"`
}

// MarshalJSON writes the key's document.
func (r Record) MarshalJSON() ([]byte, error) {
	d := recordDocument{ID: r.ID, SHA256: r.Digest, Tenant: r.Tenant, Scopes: r.Scopes, Created: r.Created, Revoked: r.Revoked}
	if !r.Expires.IsZero() {
		d.Expires = &r.Expires
	}
	return json.Marshal(d)
}

// UnmarshalJSON reads a key's document, and validates it.
func (r *Record) UnmarshalJSON(text []byte) error {
	var d recordDocument
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	*r = Record{ID: d.ID, Digest: d.SHA256, Tenant: d.Tenant, Scopes: d.Scopes, Created: d.Created, Revoked: d.Revoked}
	if d.Expires != nil {
		r.Expires = *d.Expires
	}
	return r.Validate()
}

// allScopes stands for every function in a list of scopes.
const allScopes = "*"

// MarshalJSON writes a list of function names, or ["*"] for all.
func (s Scopes) MarshalJSON() ([]byte, error) {
	if s.All {
		return json.Marshal([]string{allScopes})
	}
	return json.Marshal(append([]lightcone.FunctionName{}, s.Functions...)) // [], not null
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Scopes) UnmarshalJSON(text []byte) error {
	var names []lightcone.FunctionName
	if err := json.Unmarshal(text, &names); err != nil {
		return err
	}
	*s = Scopes{}
	for _, name := range names {
		if name == allScopes {
			s.All = true
			continue
		}
		s.Functions = append(s.Functions, name)
	}
	if s.All && len(s.Functions) > 0 {
		return errors.New("scopes are all functions (*) and also a list: choose one")
	}
	return nil
}
