package lightcone

import "time"

// InvocationStatus is where an accepted (asynchronous) call is on its way.
type InvocationStatus string

// The statuses. The first two are of a call that goes on; the others are final,
// and only a redrive by the operator leads out of InvocationDead.
const (
	InvocationQueued    InvocationStatus = "queued"    // accepted; waits for a slot, the first time or again
	InvocationRunning   InvocationStatus = "running"   // a worker has it
	InvocationSucceeded InvocationStatus = "succeeded" // the function answered
	InvocationFailed    InvocationStatus = "failed"    // the function refused the input, or the tenant has too much in the queue; it is not tried again
	InvocationCancelled InvocationStatus = "cancelled" // its tenant took it back
	InvocationDead      InvocationStatus = "dead"      // attempts or age used up; it lies in the dead letters
)

// Final says whether the call has ended.
func (s InvocationStatus) Final() bool { return s != InvocationQueued && s != InvocationRunning }

// Invocation is what is known of an accepted call.
type Invocation struct {
	ID         CallID
	Tenant     TenantID
	Function   FunctionName
	Status     InvocationStatus
	Attempts   int       // times that a function has been given the call
	CreatedAt  time.Time // when it was accepted, by the gateway's clock
	FinishedAt time.Time // zero until Status is final
	Error      string    // why the last attempt gave no good answer: one sentence, or empty
}
