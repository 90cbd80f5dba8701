package identity

import (
	"encoding/json"
	"time"

	"lightcone"
)

// Head is the document at AuditHead: the end of the audit trail.
type Head struct {
	Sequence uint64           `json:"sequence"` // of the last entry
	Hash     lightcone.Digest `json:"hash"`     // of the last entry
}

// Entry is one entry of the audit trail: a change of the management plane, and the
// paths of the documents that it changed.
type Entry struct {
	Sequence uint64           `json:"sequence"`
	Time     time.Time        `json:"time"`
	Actor    string           `json:"actor"`   // who: the id of the operator's key
	Action   string           `json:"action"`  // what, such as key.revoke
	Subject  string           `json:"subject"` // of which tenant or key
	Before   json.RawMessage  `json:"before,omitempty"`
	After    json.RawMessage  `json:"after,omitempty"`
	Changed  []string         `json:"changed"`  // paths
	Previous lightcone.Digest `json:"previous"` // the hash of the entry before; zeros for the first
}
