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

// UsageTotal is what a tenant's calls that arrived in a period used.
type UsageTotal struct {
	From, To  time.Time       // what was added up: from the first to before the second, whole hours, UTC
	Harvest   float64         // the part, 0 to 1, of those who keep usage that have answered; below 1, something may be missing
	Functions []FunctionUsage // by name
}

// FunctionUsage is what so many calls to a function used together.
type FunctionUsage struct {
	Function FunctionName
	Calls    int64
	Used     Usage
}
