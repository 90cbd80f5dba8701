package lightcone

import "time"

// Outcome is how a call ended, for its usage record.
type Outcome string

// The outcomes. Only a call that a function has seen has a record.
const (
	OutcomeAnswered Outcome = "answered" // the function answered, whatever it said
	OutcomeFailed   Outcome = "failed"   // the function crashed, outgrew its memory or broke the contract
	OutcomeTimeout  Outcome = "timeout"  // the function was stopped, at the deadline or because the call was cancelled
)

// UsageRecord is what one call used, as the ledger keeps it: one record a call,
// and the CallID makes it the same record however often it is stored.
type UsageRecord struct {
	Call     CallID
	Tenant   TenantID
	Function FunctionName
	Outcome  Outcome
	Used     Usage
	Start    time.Time     // when the call arrived: the id's time, so that what is stored by hour has all copies in one
	Duration time.Duration // to the answer
}
