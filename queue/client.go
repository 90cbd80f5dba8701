package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/internal/retry"
)

// Client is a gateway's, a worker's or an operator's way to the queue. Make it with
// Connect. Its methods are safe for concurrent use. Their errors are problems: besides
// those that each names, problem.Overloaded with RetryAfter when the queue has no
// quorum or cannot be reached in time.
type Client struct {
	*protocol
	conf      Config
	logger    *slog.Logger
	nc        *nats.Conn
	js        jetstream.JetStream
	store     *store
	warehouse *objects

	ready      atomic.Pointer[error] // why the streams are not known to exist; nil once they are
	ending     context.Context
	end        context.CancelFunc
	background sync.WaitGroup
	closed     chan struct{} // by nats, when the connection is closed for good
}

const (
	connectPatience = 2 * time.Second // for one node to let the client in
	reconnectWait   = 250 * time.Millisecond
	pingEvery       = 2 * time.Second // to the node: one that is silent for two of them is left for another
	writePatience   = 2 * time.Second // for what is written to the node to be taken by its machine: one that is cut off takes nothing
	ensureFor       = 20 * time.Second
)

// Connect makes a client. It does not wait for the nodes: it goes on trying to reach
// them, and to create the streams that are missing, until Close. Its errors are of
// the Config.
func Connect(conf Config) (*Client, error) {
	conf.Limits = conf.Limits.withDefaults()
	conf.Replicas = max(conf.Replicas, 1)
	switch {
	case conf.Logger == nil:
		return nil, errors.New("connect to the queue: there is no logger")
	case conf.InProcess == nil && len(conf.Servers) == 0:
		return nil, errors.New("connect to the queue: there are neither addresses of nodes nor a node in this process")
	}
	c := &Client{conf: conf, logger: conf.Logger, closed: make(chan struct{})}
	c.ending, c.end = context.WithCancel(context.Background())
	waiting := errors.New("the queue's streams have not been found yet")
	c.ready.Store(&waiting)
	var err error
	if c.nc, err = c.options().Connect(); err != nil {
		return nil, fmt.Errorf("connect to the queue: %w", err)
	}
	if c.js, err = jetstream.New(c.nc); err == nil {
		c.store = &store{nc: c.nc, js: c.js, limits: conf.Limits, spawn: c.background.Go}
		c.store.lengths.heard = make(map[lightcone.FunctionName]*heardLengths)
		c.store.barrier = barrier{write: c.store.writeBarrier, spawn: c.background.Go}
		err = c.store.snaps.open(c.nc)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to the queue: %w", err)
	}
	c.warehouse = &objects{js: c.js}
	c.protocol = &protocol{
		ledger: c.store, outbox: c.store, warehouse: c.warehouse,
		limits: conf.Limits, now: time.Now, random: rand.Float64,
	}
	c.background.Go(c.ensureStreams)
	return c, nil
}

func (c *Client) options() nats.Options {
	o := nats.GetDefaultOptions()
	o.Name = c.conf.Name
	o.Servers = addresses(c.conf.Servers)
	o.User, o.Password = c.conf.User, c.conf.Password
	if o.TLSConfig = c.conf.TLS; o.TLSConfig != nil {
		o.Secure = true
	}
	if c.conf.InProcess != nil {
		o.InProcessServer = c.conf.InProcess
	}
	o.Timeout = connectPatience
	o.RetryOnFailedConnect, o.MaxReconnect, o.ReconnectWait = true, -1, reconnectWait
	o.ReconnectBufSize = -1 // what cannot be sent now fails now, and is tried again by who knows its deadline
	o.PingInterval, o.MaxPingsOut = pingEvery, 2
	o.FlusherTimeout = writePatience
	o.IgnoreAuthErrorAbort = true // a password that is being changed
	o.ClosedCB = func(*nats.Conn) { close(c.closed) }
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		c.logger.Warn("the queue's node is gone; looking for another", "error", err)
	}
	o.ReconnectedCB = func(nc *nats.Conn) { c.logger.Info("the queue's node is there", "node", nc.ConnectedServerName()) }
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) {
		c.logger.Warn("the queue's connection", "error", err)
	}
	return o
}

// ensureStreams goes on until the streams are what they have to be.
func (c *Client) ensureStreams() {
	l := c.conf.Limits
	want := layout{
		replicas: c.conf.Replicas, share: int64(max(1, l.TenantShare/LanesPerTenant)), maxCalls: l.MaxCalls, maxBytes: l.MaxBytes,
		keep: l.Keep, maxAge: l.MaxAge, deadKeep: DeadKeep,
	}
	for failures := 1; c.ending.Err() == nil; failures++ {
		ctx, cancel := context.WithTimeout(c.ending, ensureFor)
		settle := ensure
		if c.conf.Guest {
			settle = present
		}
		err := settle(ctx, c.js, want)
		if err == nil {
			_, err = c.store.publishOnce(ctx, &nats.Msg{Subject: barrierSubject}) // reads count on its being there
		}
		cancel()
		if err == nil {
			c.ready.Store(nil)
			return
		}
		c.ready.Store(&err)
		if failures%20 == 1 {
			c.logger.Info("the queue's streams are not there yet", "error", err)
		}
		_ = retry.Pause(c.ending, retry.BackOff(failures, 100*time.Millisecond, 2*time.Second, rand.Float64()))
	}
}

// Follow makes servers, host:port each, the nodes that the client goes to when the one
// it has is gone. Without any, the last known stay.
func (c *Client) Follow(servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	if err := c.nc.SetServerPool(addresses(servers)); err != nil {
		return fmt.Errorf("follow the queue's nodes %v: %w", servers, err)
	}
	return nil
}

// addresses are servers as the connection wants them.
func addresses(servers []string) []string {
	all := make([]string, 0, len(servers))
	for _, server := range servers {
		all = append(all, "nats://"+server)
	}
	return all
}

// Ready says why the queue cannot be used now, or nil: there is a node, and the
// streams exist.
func (c *Client) Ready() error {
	if !c.nc.IsConnected() {
		return fmt.Errorf("queue: no node of %v can be reached", c.nc.Servers())
	}
	if err := c.ready.Load(); err != nil {
		return fmt.Errorf("queue: %w", *err)
	}
	return nil
}

// Close ends the client and waits for what it runs in the background. Work, Deliver
// and Tend are to have returned before.
func (c *Client) Close() {
	c.end()
	c.background.Wait()
	c.nc.Close()
	<-c.closed
}
