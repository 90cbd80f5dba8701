package gateway

import (
	"fmt"
	"time"

	"lightcone/gateway/admission"
)

// Config holds the gateway's bounds. Start from DefaultConfig.
type Config struct {
	MaxConnections   int           // connections open at once; one more is answered 503 and closed
	MaxHeaderBytes   int           // request line and headers together; more is answered 431
	HeaderTimeout    time.Duration // from a request's first byte to the end of its headers
	IdleTimeout      time.Duration // between two requests on one connection
	BodyStallTimeout time.Duration // without a single byte of an unfinished body
	WriteTimeout     time.Duration // for a whole answer; a slower reader is cut off

	MaxCallsInFlight int           // calls between their headers and their answers, all tenants together; one more is answered 503
	MaxBytesInFlight int64         // bodies and answers in memory, all calls together
	MaxWaitingCalls  int           // calls in one function's queue
	MaxWait          time.Duration // the longest wait for a slot that is accepted; calls slower than a quarter of it may wait four times as long as they take
	InitialService   time.Duration // how long a call is thought to take before any has been timed

	DrainDelay time.Duration // between failing readiness and closing the listeners, for load balancers to notice

	// Quarantine knows the inputs that kill slots. May be nil: then every input is run.
	Quarantine Quarantine
	// Queue takes the calls whose clients do not wait, and Invocations knows what has
	// become of them. Both nil: there is no queue, and such calls are refused.
	Queue       Queue
	Invocations Invocations
	// CheckCallback says why nobody may be called back at a URL, as a problem for the
	// caller. May be nil: then every URL with http or https will do.
	CheckCallback func(url string) error
	// Ledger keeps what calls used. May be nil: then nothing is kept.
	Ledger Ledger
	// Usage adds up what a tenant has used. May be nil: then nobody is told.
	Usage Usage
	// Tenants remembers what each tenant has used and has in flight; nil = a table of
	// the gateway's own, with admission.DefaultConfig.
	Tenants *admission.Table

	// CallersReady says why nobody's key can be known yet, and keeps the gateway
	// unready until then. May be nil.
	CallersReady func() error

	// Details makes the value that /readyz shows as "details", such as the level
	// of sandboxing reached. It must marshal to JSON. May be nil.
	Details func() any
}

// DefaultConfig is right for one machine. With MaxWait at 200 ms, answers stay
// within 500 ms under overload for functions that run in tens of milliseconds.
func DefaultConfig() Config {
	return Config{
		MaxConnections:   8192,
		MaxHeaderBytes:   16 << 10,
		HeaderTimeout:    5 * time.Second,
		IdleTimeout:      60 * time.Second,
		BodyStallTimeout: 5 * time.Second,
		WriteTimeout:     30 * time.Second,
		MaxCallsInFlight: 4096,
		MaxBytesInFlight: 512 << 20,
		MaxWaitingCalls:  1024,
		MaxWait:          200 * time.Millisecond,
		InitialService:   20 * time.Millisecond,
	}
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	for _, field := range []struct {
		name  string
		value int64
		least int64
	}{
		{"MaxConnections", int64(c.MaxConnections), 1},
		{"MaxHeaderBytes", int64(c.MaxHeaderBytes), 1 << 10},
		{"MaxCallsInFlight", int64(c.MaxCallsInFlight), 1},
		{"MaxBytesInFlight", c.MaxBytesInFlight, 1 << 20},
		{"MaxWaitingCalls", int64(c.MaxWaitingCalls), 0},
	} {
		if field.value < field.least {
			return fmt.Errorf("gateway config: %s is %d: want at least %d", field.name, field.value, field.least)
		}
	}
	for _, field := range []struct {
		name  string
		value time.Duration
	}{
		{"HeaderTimeout", c.HeaderTimeout},
		{"IdleTimeout", c.IdleTimeout},
		{"BodyStallTimeout", c.BodyStallTimeout},
		{"WriteTimeout", c.WriteTimeout},
		{"MaxWait", c.MaxWait},
		{"InitialService", c.InitialService},
	} {
		if field.value <= 0 {
			return fmt.Errorf("gateway config: %s is %v: want more than 0", field.name, field.value)
		}
	}
	if (c.Queue == nil) != (c.Invocations == nil) {
		return fmt.Errorf("gateway config: of Queue and Invocations, one is set alone: want both or neither")
	}
	if c.DrainDelay < 0 {
		return fmt.Errorf("gateway config: DrainDelay is %v: want 0 or more", c.DrainDelay)
	}
	return nil
}
