package bulk

import (
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"lightcone"
	"lightcone/functions"
)

// Runner runs a call to its end and fills answer, whose Body it appends to. Its
// error is a *problem.Error: the supervisor of package functions/runtime is one.
type Runner interface {
	Run(call *functions.Call, answer *functions.Answer) error
}

// Config is one share of a job.
type Config struct {
	In, Out Store
	Except  string // keys of In that start so belong to Out (see Apart); empty = none
	Job     string // see ValidateJob

	Share, Shares int // this share, from 0, and how many there are

	Runner   Runner
	Function functions.Spec // its MaxTimeout is every call's deadline, its MaxBodyBytes the longest input
	Params   url.Values
	Tenant   lightcone.TenantID // whose calls these are

	Slots int // calls at once, 1 to 1024
	Ahead int // objects being read or written beside those; 0 = two a slot. Each may hold MaxBodyBytes

	Retry       Policy        // zero = DefaultPolicy
	MostGivenUp int           // objects that the platform or storage failed at before the share ends; 0 = 20
	ReportEvery time.Duration // between two writes of journal and progress; 0 = 2 s
	Logger      *slog.Logger
}

const (
	mostSlots          = 1024
	mostShares         = 100_000
	defaultMostGivenUp = 20
	defaultReportEvery = 2 * time.Second
)

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.In == nil || c.Out == nil || c.Runner == nil || c.Logger == nil:
		return fmt.Errorf("bulk: want an input, an output, a runner and a logger")
	case c.Shares < 1 || c.Shares > mostShares:
		return fmt.Errorf("bulk: %d shares: want 1 to %d", c.Shares, mostShares)
	case c.Share < 0 || c.Share >= c.Shares:
		return fmt.Errorf("bulk: share %d of %d: want 0 to %d", c.Share, c.Shares, c.Shares-1)
	case c.Slots < 1 || c.Slots > mostSlots:
		return fmt.Errorf("bulk: %d slots: want 1 to %d", c.Slots, mostSlots)
	case c.Ahead < 0 || c.Ahead > 8*mostSlots:
		return fmt.Errorf("bulk: %d objects ahead: want 0 to %d", c.Ahead, 8*mostSlots)
	case c.MostGivenUp < 0 || c.ReportEvery < 0:
		return fmt.Errorf("bulk: the bound on objects given up and the time between reports must not be negative")
	}
	for _, check := range []func() error{
		func() error { return ValidateJob(c.Job) }, c.Function.Validate, c.Tenant.Validate, c.Retry.Validate,
	} {
		if err := check(); err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
	}
	return nil
}

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	if c.Ahead == 0 {
		c.Ahead = 2 * c.Slots
	}
	if c.Retry == (Policy{}) {
		c.Retry = DefaultPolicy
	}
	if c.MostGivenUp == 0 {
		c.MostGivenUp = defaultMostGivenUp
	}
	if c.ReportEvery == 0 {
		c.ReportEvery = defaultReportEvery
	}
	return c
}
