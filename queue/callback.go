package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/retry"
)

// Callback is the news of a call's end for the URL that its caller named.
type Callback struct {
	Invocation lightcone.Invocation
	URL        string
	Result     functions.Result // of succeeded and failed calls; without Body when that is Omitted
	Omitted    bool             // the result is over MostInline: it has to be fetched
	Attempt    int              // 1 for the first attempt at this callback
}

// Verdict is what an attempt at a callback came to.
type Verdict struct {
	Done      bool          // there is to be no other: it was delivered, or given up
	After     time.Duration // of one that is not Done: how long to wait before the next
	Uncounted bool          // of one that is not Done: nothing was attempted; the next has the same number, and the wait doubles each time, up to 64 times After
}

// deliverer is the consumer that all who deliver share; deliverWait is when a callback
// whose deliverer is silent goes to another.
const (
	deliverer    = "deliver"
	deliverWait  = 90 * time.Second
	deliverFor   = 30 * time.Second
	deliverAgain = 30 * time.Minute // for one that cannot be read
	triesKeep    = 48 * time.Hour
)

// Deliver hands out callbacks until ctx ends, each again until deliver says that it is
// Done: when to try again, and when no more, is for deliver to say. It counts the
// attempts that deliver counts, over all who deliver; what is cut short by the loss of a
// node or of the quorum may have the same number twice. Each is handed out at least
// once, at most atOnce at a time. deliver's context ends after 30 s. Several may deliver
// at once: it runs on the queue's nodes. Its error is of its arguments.
func (c *Client) Deliver(ctx context.Context, atOnce int, deliver func(context.Context, *Callback) Verdict) error {
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

// deliver makes one attempt at one callback.
func (c *Client) deliver(ctx context.Context, m jetstream.Msg, deliver func(context.Context, *Callback) Verdict) {
	about, err := m.Metadata()
	var n news
	if err == nil {
		err = decode(m.Headers().Get(headHeader), &n)
	}
	if err != nil { // never thrown away: perhaps a newer node can read it
		c.logger.Error("a callback cannot be read", "subject", m.Subject(), "error", err)
		_ = m.NakWithDelay(deliverAgain)
		return
	}
	within, cancel := context.WithTimeout(ctx, deliverFor)
	defer cancel()
	tried := 0
	if about.NumDelivered > 1 { // which counts those that were no attempts, too
		if tried, err = c.store.tried(within, about.Sequence.Stream); err != nil {
			_ = m.NakWithDelay(retry.BackOff(int(about.NumDelivered), time.Second, time.Minute, rand.Float64()))
			return
		}
	}
	news := n.callback(m.Data())
	news.Attempt = tried + 1
	verdict := deliver(within, news)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryFor)
	defer cancel()
	wait := verdict.After
	switch {
	case verdict.Done:
		if err := m.DoubleAck(ending); err != nil {
			c.logger.Warn("a callback may be delivered again", "call", n.Invocation.ID, "error", err)
		}
		return
	case verdict.Uncounted:
		wait = postponement(wait, about.NumDelivered)
	default:
		if err := c.store.setTried(ending, about.Sequence.Stream, news.Attempt); err != nil {
			c.logger.Warn("an attempt at a callback is not counted", "call", n.Invocation.ID, "error", err)
		}
	}
	_ = m.NakWithDelay(wait)
}

// postponement is the wait of a callback that there was no place for, which has been
// handed out so often: longer each time, up to 64 times. For what comes again is handed
// out before what is new, and thousands of one tenant's must not keep out the others'.
func postponement(after time.Duration, deliveries uint64) time.Duration {
	return after << min(max(deliveries, 1)-1, 6)
}

// triesSubject has how many attempts there were at the callback whose message has that
// sequence. Most callbacks need one, and have none.
func triesSubject(sequence uint64) string { return triesPrefix + strconv.FormatUint(sequence, 10) }

// tried asks any node: one that lags tells fewer.
func (s *store) tried(ctx context.Context, sequence uint64) (int, error) {
	m, err := s.directGet(ctx, callsStream, triesSubject(sequence))
	if err != nil || m == nil || len(m.Data) == 0 { // without data it marks that the number has expired
		return 0, err
	}
	return strconv.Atoi(string(m.Data))
}

func (s *store) setTried(ctx context.Context, sequence uint64, attempts int) error {
	_, err := s.publishOnce(ctx, &nats.Msg{
		Subject: triesSubject(sequence), Data: strconv.AppendInt(nil, int64(attempts), 10),
		Header: nats.Header{nats.MsgTTLHdr: {strconv.Itoa(int(triesKeep/time.Second)) + "s"}},
	})
	return err
}
