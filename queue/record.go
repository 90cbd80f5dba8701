package queue

import (
	"encoding/json"
	"fmt"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// record is a call's state, as CALLS keeps it: one message per call, whose header
// holds this and whose payload is the body of an inline result.
type record struct {
	ID       lightcone.CallID
	Tenant   lightcone.TenantID
	Function lightcone.FunctionName

	Status     lightcone.InvocationStatus
	Generation int // times that it was redriven
	Attempts   int // in this generation, those that the function has seen
	CreatedAt  time.Time
	QueuedAt   time.Time // when this generation began
	StartedAt  time.Time // of the last attempt
	FinishedAt time.Time
	Error      string
	Result     *resultHead `json:",omitempty"`
	Spent      *spent      `json:",omitempty"` // by the last attempt that is for somebody to pay

	Callback  string `json:",omitempty"`
	FarInput  bool   `json:",omitempty"` // the input lies in the object store
	Work      uint64 `json:",omitempty"` // sequence of its message in WORK; 0 = not known
	WrittenAs string // drawn for each write: tells a writer its own from another's
}

// resultHead is a result without its body.
type resultHead struct {
	Status      int
	Problem     problem.Kind `json:",omitempty"`
	ContentType string       `json:",omitempty"`
	Vary        string       `json:",omitempty"`
	CPU         time.Duration
	Exec        time.Duration
	Waited      time.Duration
	Bytes       int
	Object      string `json:",omitempty"` // its name in the object store, when it is over MostInline
}

func headOf(r *functions.Result) *resultHead {
	return &resultHead{
		Status: r.Status, Problem: r.Problem, ContentType: r.ContentType, Vary: r.Vary,
		CPU: r.CPU, Exec: r.Exec, Waited: r.Waited, Bytes: len(r.Body),
	}
}

func (h *resultHead) result(body []byte) functions.Result {
	return functions.Result{
		Status: h.Status, Problem: h.Problem, ContentType: h.ContentType, Vary: h.Vary,
		Body: body, CPU: h.CPU, Exec: h.Exec, Waited: h.Waited,
	}
}

func (r *record) invocation() lightcone.Invocation {
	return lightcone.Invocation{
		ID: r.ID, Tenant: r.Tenant, Function: r.Function, Status: r.Status, Attempts: r.Attempts,
		CreatedAt: r.CreatedAt, FinishedAt: r.FinishedAt, Error: r.Error,
	}
}

// job is a call as it lies in WORK, and in DEAD: the header holds this, and the
// payload is the input unless that is far.
type job struct {
	ID         lightcone.CallID
	Tenant     lightcone.TenantID
	Function   lightcone.FunctionName
	Generation int
	CreatedAt  time.Time
	QueuedAt   time.Time
	Timeout    time.Duration

	Query       []byte `json:",omitempty"`
	ContentType []byte `json:",omitempty"`
	Accept      []byte `json:",omitempty"`
	Traceparent []byte `json:",omitempty"`
	Callback    string `json:",omitempty"`
	InputBytes  int64
	FarInput    bool `json:",omitempty"`
	// Owed is what the call is told to have spent, whatever becomes of this generation:
	// its first end with something to pay was an earlier one's.
	Owed *lightcone.UsageRecord `json:",omitempty"`
}

// mostJob is how long, in bytes, what a call says besides its input may be in the
// queue: a dead letter holds it, its record, and the callback in both.
const mostJob = 28 << 10

// validate says whether the queue can keep the call.
func (j *job) validate() error {
	if err := j.Tenant.Validate(); err != nil {
		return problem.New(problem.BadParameter, "The call cannot be queued: %v.", err)
	}
	if err := j.Function.Validate(); err != nil {
		return problem.New(problem.BadParameter, "The call cannot be queued: %v.", err)
	}
	if j.Timeout <= 0 {
		return problem.New(problem.BadParameter, "The call cannot be queued: its timeout is %v.", j.Timeout)
	}
	head, err := encode(j)
	if err == nil && len(head) > mostJob {
		err = problem.New(problem.TooLarge, "The call's query, headers and callback are %d bytes in the queue; the most is %d.", len(head), mostJob)
	}
	return err
}

// newRecord is the record of a call that has just been accepted, or redriven.
func (j *job) newRecord() record {
	return record{
		ID: j.ID, Tenant: j.Tenant, Function: j.Function, Status: lightcone.InvocationQueued,
		Generation: j.Generation, CreatedAt: j.CreatedAt, QueuedAt: j.QueuedAt,
		Callback: j.Callback, FarInput: j.FarInput,
	}
}

// messageID is what JetStream knows a generation of the call by: however often it is
// published, it is stored once.
func messageID(id lightcone.CallID, generation int) string {
	if generation == 0 {
		return id.String()
	}
	return fmt.Sprintf("%s-r%d", id, generation)
}

// letter is a dead letter: the job, and how it died.
type letter struct {
	Job    job
	Record record
}

// call is the job as a function gets it.
func (j *job) call(body []byte, deadline time.Time, attempt int) *functions.Call {
	return &functions.Call{
		ID: j.ID, Function: j.Function, Tenant: j.Tenant, Deadline: deadline, Attempt: attempt, Query: j.Query,
		ContentType: j.ContentType, Accept: j.Accept, Traceparent: j.Traceparent, Body: body,
	}
}

// mostHead bounds what a header may hold: the nodes refuse more than 64 KiB of headers.
const mostHead = 60 << 10

// encode writes what a header holds.
func encode(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("queue: encode %T: %w", v, err)
	}
	if len(text) > mostHead {
		return "", problem.New(problem.TooLarge, "What the queue has to keep of a call besides its bodies is %d bytes; the most is %d.", len(text), mostHead)
	}
	return string(text), nil
}

// decode reads what encode wrote. What is in the queue was written by a client of
// some version of this package; anything else is an error.
func decode(text string, v any) error {
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("queue: a message's head %.100q is not a %T: %w", text, v, err)
	}
	return nil
}
