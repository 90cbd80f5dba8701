package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// Callback is the news of a call's end for the URL that its caller named.
type Callback struct {
	Invocation lightcone.Invocation
	URL        string
	Result     functions.Result // of succeeded and failed calls; without Body when that is Omitted
	Omitted    bool             // the result is over MostInline: it has to be fetched
	Attempt    int              // 1 for the first try of this callback
	Attempts   int              // how often it will be tried at most
}

// deliverer is the consumer that all who deliver share; deliverWait is when a callback
// whose deliverer is silent goes to another.
const (
	deliverer   = "deliver"
	deliverWait = 90 * time.Second
	deliverFor  = 30 * time.Second
)

// Deliver hands out callbacks until ctx ends, each again with back-off until deliver
// returns nil or Limits.CallbackAttempts are used up; errors of the kinds
// problem.BadParameter and problem.Forbidden are final at once. Each is handed out at
// least once, at most atOnce at a time. deliver's context ends after 30 s. Several may
// deliver at once: it runs on the queue's nodes. Its error is of its arguments.
func (c *Client) Deliver(ctx context.Context, atOnce int, deliver func(context.Context, *Callback) error) error {
	if atOnce < 1 || deliver == nil {
		return fmt.Errorf("deliver callbacks: %d at once: want 1 or more, and a way to deliver", atOnce)
	}
	free := make(chan struct{}, atOnce)
	var delivering sync.WaitGroup
	defer delivering.Wait()
	for failures := 1; ctx.Err() == nil; failures++ {
		err := c.deliverFrom(ctx, free, func(m jetstream.Msg) {
			delivering.Go(func() {
				defer func() { <-free }()
				c.deliver(ctx, m, deliver)
			})
		})
		if err != nil && ctx.Err() == nil && failures%20 == 2 {
			c.logger.Info("callbacks cannot be taken yet", "error", err)
		}
		_ = retry.Pause(ctx, retry.BackOff(failures, 100*time.Millisecond, 2*time.Second, rand.Float64()))
	}
	return nil
}

// deliverFrom takes callbacks until ctx ends or that fails. It takes none before there
// is somebody free for it.
func (c *Client) deliverFrom(ctx context.Context, free chan struct{}, hand func(jetstream.Msg)) error {
	try, cancel := context.WithTimeout(ctx, 2*tryFor)
	defer cancel()
	consumer, err := c.js.CreateOrUpdateConsumer(try, callbacksStream, jetstream.ConsumerConfig{
		Durable: deliverer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: deliverWait, MaxDeliver: -1, MaxAckPending: -1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		m, err := messages.Next()
		if err != nil {
			<-free
			return err
		}
		hand(m)
	}
}

// deliver tries one callback once.
func (c *Client) deliver(ctx context.Context, m jetstream.Msg, deliver func(context.Context, *Callback) error) {
	about, err := m.Metadata()
	var n news
	if err == nil {
		err = decode(m.Headers().Get(headHeader), &n)
	}
	if err != nil { // never thrown away: perhaps a newer node can read it
		c.logger.Error("a callback cannot be read", "subject", m.Subject(), "error", err)
		_ = m.NakWithDelay(callbackAfter)
		return
	}
	news := n.callback(m.Data())
	news.Attempt, news.Attempts = int(about.NumDelivered), c.limits.CallbackAttempts
	within, cancel := context.WithTimeout(ctx, deliverFor)
	defer cancel()
	err = deliver(within, news)
	var found *problem.Error
	final := errors.As(err, &found) && (found.Kind == problem.BadParameter || found.Kind == problem.Forbidden)
	switch {
	case err == nil, final, ctx.Err() == nil && news.Attempt >= news.Attempts:
		if err != nil {
			c.logger.Warn("a callback was given up", "call", n.Invocation.ID, "attempts", news.Attempt, "error", err)
		}
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryFor)
		defer cancel()
		if err := m.DoubleAck(done); err != nil {
			c.logger.Warn("a callback may be delivered again", "call", n.Invocation.ID, "error", err)
		}
	case ctx.Err() != nil: // stopped in the middle: somebody else's turn
		_ = m.Nak()
	default:
		_ = m.NakWithDelay(retry.BackOff(news.Attempt, c.limits.CallbackBackOff, callbackAfter, rand.Float64()))
	}
}
