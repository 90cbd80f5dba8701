package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// DefaultStopBound is how long each component may take to stop, unless the
// group says otherwise: long enough to drain calls of ordinary length.
const DefaultStopBound = 10 * time.Second

// ErrEnded is in the error of a Start that came after the group had begun to end.
var ErrEnded = errors.New("the group is already ending")

// Stop ends a component and returns when nothing of it runs any more. Its
// context ends when the bound is over; a Stop that heeds it gives up its drain,
// cuts short and says so in its error.
type Stop func(context.Context) error

// Group is a set of running components. Make one with New. Its methods may be
// called from any goroutine; components start one at a time.
type Group struct {
	StopBound time.Duration // for each component's stop; set it before the first Start

	logger   *slog.Logger
	starting sync.Mutex // held while a component starts: order is part of the promise

	mu         sync.Mutex
	components []*component
	failures   []error
	begun      bool          // somebody has begun to stop the components
	ended      chan struct{} // closed when every stop has returned or run out of time

	ending context.Context // ends when the group begins to end
	end    context.CancelFunc
}

// component is one started thing. Its fields other than name and settled are
// guarded by the group's mu.
type component struct {
	name      string
	settled   chan struct{} // closed when its start has returned
	stop      Stop          // nil while it has not started, or when it has nothing to stop
	abandoned bool          // its start outlived the group's patience
}

// New makes an empty group that logs each start and stop.
func New(logger *slog.Logger) *Group {
	ending, end := context.WithCancel(context.Background())
	return &Group{
		StopBound: DefaultStopBound,
		logger:    logger,
		ended:     make(chan struct{}),
		ending:    ending,
		end:       end,
	}
}

// Start runs start and registers the stop it returns, which may be nil, and
// which may come with an error: what exists is stopped, failed or not. The
// context given to start covers the start alone: it ends with ctx, or when the
// group begins to end, and a component must not tie its life to it.
//
// If start fails, everything started before is stopped before Start returns, and
// the error is the group's. After that, and after Stop, Start runs nothing and
// answers ErrEnded, as it does when ctx ended and interrupted the start. Callers may
// ignore the error, or leave at it; either way Wait tells why the group has ended,
// which is nothing when it was told to.
func (g *Group) Start(ctx context.Context, name string, start func(context.Context) (Stop, error)) error {
	g.starting.Lock()
	c := &component{name: name, settled: make(chan struct{})}
	if !g.register(c) {
		g.starting.Unlock()
		return fmt.Errorf("start %s: %w", name, ErrEnded)
	}
	began := time.Now()
	startCtx, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(g.ending, cancel)
	stop, err := start(startCtx)
	interrupted := startCtx.Err() != nil && errors.Is(err, startCtx.Err())
	detach()
	cancel()
	late := g.settle(c, stop)
	g.starting.Unlock()

	if late { // the group has given this start up, and stops it no more
		if stopErr := g.stopOne(name, stop); stopErr != nil {
			g.record(stopErr)
		}
	}
	if interrupted { // told to end while starting, and it did: nobody failed
		g.end()
		return errors.Join(fmt.Errorf("start %s: %w", name, ErrEnded), g.Stop())
	}
	if err != nil {
		g.Fail(name, fmt.Errorf("start: %w", err))
		return g.Stop()
	}
	if late {
		return fmt.Errorf("start %s: it came up too late: %w", name, ErrEnded)
	}
	g.logger.Info("started", "component", name, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// Fail is how a running component reports that it cannot go on: the group ends.
// It returns at once, so a component may call it from its own goroutine.
func (g *Group) Fail(name string, err error) {
	g.logger.Error("failed", "component", name, "error", err)
	g.record(fmt.Errorf("%s: %w", name, err))
	g.end()
}

// Wait returns when ctx has ended or a component has failed, and everything has
// been stopped. An end of ctx is not an error: nil means all went well.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-g.ending.Done():
	}
	return g.Stop()
}

// Stop ends the group: it stops every component, last started first, and
// returns the joined errors of the group's life. Further and concurrent calls
// wait for the first and return the same errors.
func (g *Group) Stop() error {
	g.end()
	g.mu.Lock()
	first := !g.begun
	g.begun = true
	g.mu.Unlock()
	if first {
		g.stopAll()
		close(g.ended)
	}
	<-g.ended
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.failures...)
}

func (g *Group) stopAll() {
	g.mu.Lock()
	components := g.components // complete: register adds none once the group is ending
	g.mu.Unlock()
	for i := len(components) - 1; i >= 0; i-- {
		stop, err := g.startedStop(components[i])
		if err == nil {
			err = g.stopOne(components[i].name, stop)
		}
		if err != nil {
			g.record(err)
		}
	}
}

// startedStop waits, within the bound, for a start that is under way.
func (g *Group) startedStop(c *component) (Stop, error) {
	timer := time.NewTimer(g.StopBound)
	defer timer.Stop()
	select {
	case <-c.settled:
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-c.settled:
		return c.stop, nil
	default:
		c.abandoned = true
		return nil, fmt.Errorf("%s: start: did not return within %v of being told to end", c.name, g.StopBound)
	}
}

// stopOne runs one stop within the bound. A stop that heeds its context gets a
// tenth more, to return an error that says more than "stuck".
func (g *Group) stopOne(name string, stop Stop) error {
	if stop == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.StopBound)
	defer cancel()
	began := time.Now()
	result := make(chan error, 1)
	go func() { result <- stop(ctx) }()
	patience := time.NewTimer(g.StopBound + g.StopBound/10)
	defer patience.Stop()
	select {
	case err := <-result:
		took := time.Since(began).Round(time.Millisecond)
		if err != nil {
			g.logger.Error("stopped with an error", "component", name, "took", took, "error", err)
			return fmt.Errorf("%s: stop: %w", name, err)
		}
		g.logger.Info("stopped", "component", name, "took", took)
		return nil
	case <-patience.C:
		g.logger.Error("stuck in its stop, left behind", "component", name, "bound", g.StopBound)
		return fmt.Errorf("%s: stop: did not return within %v", name, g.StopBound)
	}
}

// register adds a component unless the group is ending.
func (g *Group) register(c *component) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ending.Err() != nil {
		return false
	}
	g.components = append(g.components, c)
	return true
}

// settle notes what a start returned, and says whether it came too late to be stopped
// by the group.
func (g *Group) settle(c *component, stop Stop) (late bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.stop = stop
	close(c.settled)
	return c.abandoned
}

func (g *Group) record(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures = append(g.failures, err)
}
