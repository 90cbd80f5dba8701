package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// outage tells the log once that something is away, and once that it is back, and
// keeps in mind why it was away last.
type outage struct {
	name   string // what it is, at the beginning of a sentence
	logger *slog.Logger
	after  int // failures in a row that are an outage

	mu       sync.Mutex
	failures int
	answered bool // ever
	last     error
}

func newOutage(name string, logger *slog.Logger, after int) *outage {
	return &outage{name: name, logger: logger, after: after}
}

// report takes in how a try went. That the one who tried gave up says nothing. The
// error must not say which document was asked for.
func (o *outage) report(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		if o.failures >= o.after {
			o.logger.Info(o.name+" answers again.", "failures", o.failures)
		}
		o.failures, o.answered = 0, true
		return
	}
	o.last = err
	if o.failures++; o.failures == o.after {
		o.logger.Warn(o.name+" does not answer; what is known stays in force.", "error", err)
	}
}

// standing is whether it has ever answered, and in words why not.
func (o *outage) standing() (bool, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		return o.answered, fmt.Sprintf("%s has not answered yet", o.name)
	}
	return o.answered, fmt.Sprintf("%s: %v", o.name, o.last)
}

// Ready is nil once Redis or the origin has answered, and ever after, whatever
// becomes of them. Before that no key can be known, and it says why.
func (d *Directory) Ready() error {
	answered, why := d.origin.outage.standing()
	if trail, _ := d.trail.outage.standing(); answered || trail {
		return nil
	}
	if r := d.config.Redis; r != nil {
		answered, more := r.breaker.outage.standing()
		if answered {
			return nil
		}
		why += "; " + more
	}
	return fmt.Errorf("no store of keys has answered since the start, so that no key can be looked up: %s", why)
}
