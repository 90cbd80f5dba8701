package gateway

import (
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

// Ledger keeps what calls used, for the bill. Its methods are called from many
// goroutines and must not wait for a disk or for anybody.
type Ledger interface {
	// Append keeps a call's record, so that it outlives this process however that ends.
	Append(record *lightcone.UsageRecord) error
	// Answered counts a call that was answered, apart from its record: so that the two
	// can be compared. start is the record's.
	Answered(start time.Time) error
	// Full says why records of more calls than are under way cannot be kept; nil = they can.
	Full() error
}

// writable refuses calls while what they use could not be written down.
func (g *Gateway) writable() error {
	if g.config.Ledger == nil {
		return nil
	}
	if err := g.config.Ledger.Full(); err != nil {
		return problem.New(problem.Overloaded, "Lightcone cannot write down what calls use at the moment, so none is run; this one was not, and may be sent again.").Because(err)
	}
	return nil
}

// record keeps what a call used, before its answer leaves, and says whether there is
// something to keep: what the function has not had, and what was the platform's fault,
// is nobody's to pay. A record that cannot be kept costs no answer: the comparison of
// answers and records finds it.
func (g *Gateway) record(c *call, arrived time.Time, ran bool, err error) bool {
	if g.config.Ledger == nil || !ran || err != nil && fault(problem.Of(err).Kind) == platform {
		return false
	}
	c.record = lightcone.UsageRecord{
		Call: c.request.ID, Tenant: c.request.Tenant, Function: c.request.Function,
		Outcome: lightcone.OutcomeAnswered, Used: usageOf(c, ran, err),
		Start: c.request.ID.Time(), Duration: time.Since(arrived),
	}
	c.record.Used.CPU = max(c.record.Used.CPU.Truncate(time.Microsecond), 0) // as Server-Timing tells it, so that the bill adds up
	if err != nil {
		c.record.Outcome = lightcone.OutcomeFailed
		if problem.Of(err).Kind == problem.DeadlineExceeded {
			c.record.Outcome = lightcone.OutcomeTimeout
		}
	}
	if err := g.config.Ledger.Append(&c.record); err != nil {
		g.metrics.unrecorded.Inc()
		g.logger.Error("what a call used is not written down", "call", c.request.ID, "tenant", c.request.Tenant, "error", err)
	}
	return true
}

// answered counts a recorded call whose answer is about to be written.
func (g *Gateway) answered(start time.Time) {
	if err := g.config.Ledger.Answered(start); err != nil {
		g.logger.Error("an answered call is not counted on disk", "error", err)
	}
}
