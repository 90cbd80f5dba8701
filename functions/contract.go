package functions

import (
	"fmt"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

// The names of the contract: environment variables, headers and the health path.
const (
	EnvSocket = "LIGHTCONE_SOCKET"
	EnvPort   = "PORT"

	HeaderCallID      = "X-Call-Id"
	HeaderDeadline    = "Lightcone-Deadline"
	HeaderProblem     = "Lightcone-Problem"
	HeaderTraceparent = "Traceparent"

	HealthPath = "/healthz"
)

// Spec declares a function: what to start and within which bounds.
type Spec struct {
	Name    lightcone.FunctionName
	Command []string // executable (absolute path) and arguments
	Env     []string // KEY=value; nothing else is inherited from Lightcone's own environment
	UsePort bool     // listens on $PORT instead of the Unix socket

	MemoryBytes    int64         // bound on the process's data; outgrowing it costs the call and the process
	DefaultTimeout time.Duration // a call's deadline when the caller names none
	MaxTimeout     time.Duration // the longest deadline a caller may name
	MaxBodyBytes   int64         // the longest input

	RecycleAfterCalls int   // a process is replaced after so many calls; 0 = never
	RecycleAboveBytes int64 // a process resident above this after a call is replaced; 0 = never
}

// Validate names the first field that cannot be used.
func (s Spec) Validate() error {
	if err := s.Name.Validate(); err != nil {
		return err
	}
	switch {
	case len(s.Command) == 0 || len(s.Command[0]) == 0 || s.Command[0][0] != '/':
		return fmt.Errorf("function %s: command %q: want an absolute path to an executable", s.Name, s.Command)
	case s.MemoryBytes < 32<<20:
		return fmt.Errorf("function %s: memory of %d bytes: want at least 32 MiB", s.Name, s.MemoryBytes)
	case s.DefaultTimeout <= 0 || s.MaxTimeout < s.DefaultTimeout:
		return fmt.Errorf("function %s: timeouts %v (default) and %v (longest): want 0 < default <= longest", s.Name, s.DefaultTimeout, s.MaxTimeout)
	case s.MaxBodyBytes <= 0:
		return fmt.Errorf("function %s: input limit of %d bytes: want more than 0", s.Name, s.MaxBodyBytes)
	case s.RecycleAfterCalls < 0 || s.RecycleAboveBytes < 0:
		return fmt.Errorf("function %s: recycling bounds must not be negative", s.Name)
	}
	return nil
}

// Call is one call on its way to a function. Whoever makes it owns Body and
// leaves it alone until the call has been answered.
type Call struct {
	ID          lightcone.CallID
	Function    lightcone.FunctionName
	Tenant      lightcone.TenantID
	Deadline    time.Time
	Attempt     int    // at a queued call: no two attempts at it have the same number, from 1 on; 0 when its caller waits
	Query       []byte // as received, without the question mark
	ContentType []byte
	Accept      []byte
	Traceparent []byte
	Body        []byte
}

// Answer is what a function said, and what saying it cost.
type Answer struct {
	Status      int
	Problem     problem.Kind // set when the function named a kind; Body is then its sentence
	ContentType string
	Vary        string
	Body        []byte        // reused between calls by whoever passes the Answer in
	CPU         time.Duration // measured outside the function
	Exec        time.Duration // from handing the call to the process to having its whole answer
	Lost        time.Duration // with a worker that went away, before the one that answered was asked; a gateway's fleet sets it
}

// FunctionMay says whether a function may blame kind: it speaks of its input
// and of itself, never of keys, limits or the platform.
func FunctionMay(kind problem.Kind) bool {
	switch kind {
	case problem.BadParameter, problem.UnsupportedMedia, problem.CorruptInput,
		problem.TooManyPixels, problem.TooLarge, problem.DeadlineExceeded, problem.FunctionFailed:
		return true
	default:
		return false
	}
}

// Offer is a function that can be called now, and how many calls it runs at once.
type Offer struct {
	Spec  Spec
	Slots int

	// ColdStart is how long a call may wait while there is no slot at all, for a
	// function whose first process is started when it is called; 0 = no longer
	// than for a slot that is taken.
	ColdStart time.Duration
}

// IsFieldValue says whether a header's value can be sent on as it is (RFC 9110, 5.5).
func IsFieldValue[T ~string | ~[]byte](value T) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
