package admission

import (
	"time"

	"lightcone"
)

// Look lets a question about the tenant's calls go on, if fewer than most are under way:
// it is no call, takes no token, and is bounded by nothing but that. Its Grant may hold
// memory, and is not settled: each has to be given back once with Looked.
func (t *Table) Look(id lightcone.TenantID, most int, at time.Time) (Grant, bool) {
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock(s, at)
	s.latest = now
	found := t.find(s, id, now, at)
	if int(found.looking) >= most {
		return Grant{}, false
	}
	found.looking++
	return Grant{shard: s, tenant: found, id: id}, true
}

// Looked ends what Look began. Memory that is still held may be released after that.
func (t *Table) Looked(grant Grant) {
	grant.shard.mu.Lock()
	defer grant.shard.mu.Unlock()
	grant.tenant.looking--
}

// Record counts what a call used that was admitted when it was queued, and ran later:
// towards its tenant's month, and its breaker.
func (t *Table) Record(id lightcone.TenantID, outcome Outcome, used lightcone.Usage, at time.Time) {
	s := t.shardOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock(s, at)
	s.latest = now
	found := t.find(s, id, now, at)
	found.breaker.record(&t.rules, outcome, false, now)
	if outcome == Crashed {
		t.noteCrash(&found.breaker)
	}
	found.month.add(used)
}
