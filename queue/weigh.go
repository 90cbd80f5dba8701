package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
)

const (
	weighEvery  = time.Second
	weighFor    = time.Minute      // at most, for one kind at a look
	weighRests  = 20               // what is read anew rests for so many times as long as reading took,
	restsMost   = 10 * time.Second // but no longer
	beyondStays = 5 * time.Minute  // word of who has too much, when nobody says it again: for longer than weighing one kind takes
	beyondAgain = 15 * time.Second
	readAtOnce  = 1000 // messages
	readerIdles = time.Minute
)

// reader reads a stream from its beginning, without the payloads that do not matter, and
// goes on later where it ended.
type reader struct {
	consumer jetstream.Consumer // nil = it is to be made
	got      uint64             // messages, of this consumer
	next     uint64             // sequence to go on from
}

// read sees everything that has come since the last time. After an error it goes on
// behind what it has seen.
func (r *reader) read(ctx context.Context, js jetstream.JetStream, k *kind, see func(jetstream.Msg, *jetstream.MsgMetadata)) (err error) {
	defer func() {
		if err != nil {
			r.consumer = nil
			err = fmt.Errorf("queue: read %s: %w", k.stream, err)
		}
	}()
	if r.consumer == nil {
		r.got = 0
		err = bounded(ctx, func(ctx context.Context) (err error) {
			r.consumer, err = js.CreateConsumer(ctx, k.stream, jetstream.ConsumerConfig{
				FilterSubject: k.subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(r.next, 1),
				AckPolicy: jetstream.AckNonePolicy, HeadersOnly: !k.named, InactiveThreshold: readerIdles, MemoryStorage: true, Replicas: 1,
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	for {
		batch, err := r.consumer.FetchNoWait(readAtOnce)
		if err != nil {
			return err
		}
		came, left := 0, uint64(0)
		for m := range batch.Messages() {
			about, err := m.Metadata()
			if err != nil {
				return err
			}
			if about.Sequence.Consumer != r.got+1 {
				return errors.New("messages were lost on the way")
			}
			see(m, about)
			r.got, r.next = about.Sequence.Consumer, about.Sequence.Stream+1
			came, left = came+1, about.NumPending
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return err
		}
		if came == 0 { // there is nothing, or nobody answers
			return bounded(ctx, func(ctx context.Context) error {
				info, err := r.consumer.Info(ctx)
				if err == nil && info.NumPending > 0 {
					err = fmt.Errorf("%d messages have not come", info.NumPending)
				}
				return err
			})
		}
		if left == 0 {
			return nil
		}
	}
}

// close lets the nodes forget the reader, which they do by themselves a little later.
func (r *reader) close(ctx context.Context, js jetstream.JetStream, k *kind) {
	if r.consumer != nil {
		_ = bounded(ctx, func(ctx context.Context) error { return js.DeleteConsumer(ctx, k.stream, r.consumer.CachedInfo().Name) })
	}
	*r = reader{}
}

// scale weighs what is kept of one kind.
type scale struct {
	kind
	reader  reader
	weights weights
	rests   time.Time // of what is read anew: until then, what was read last holds
	begun   bool      // it is weighed, for its stream has enough
	beyond  map[lightcone.TenantID]excess
}

// look finds out who has too much of the kind. After an error, what was known holds.
func (s *scale) look(ctx context.Context, c *Client) error {
	ctx, cancel := context.WithTimeout(ctx, weighFor)
	defer cancel()
	info, err := c.store.streamInfo(ctx, s.stream)
	if err != nil {
		return err
	}
	if s.begun = s.worth(info.State.Bytes, c.limits.KeptShare*float64(info.Config.MaxBytes)); !s.begun {
		s.forget(ctx, c.js)
		return nil
	}
	kept, err := s.weigh(ctx, c.js)
	if err == nil {
		s.beyond = beyond(&s.kind, kept, info.Config.MaxBytes, c.limits.KeptShare)
	}
	return err
}

// worth says whether a stream with so many bytes is to be weighed: from half a tenant's
// share on, and then until it has a quarter of one, for whoever begins reads it whole.
func (s *scale) worth(bytes uint64, share float64) bool {
	if s.begun {
		return float64(bytes) >= share/4
	}
	return float64(bytes) >= share/2
}

// weigh takes in what has changed, and answers with what each tenant has.
func (s *scale) weigh(ctx context.Context, js jetstream.JetStream) (map[lightcone.TenantID]int64, error) {
	now := time.Now()
	if s.lasts > 0 { // what has come is all that changes, besides what time does
		s.weights.lasts = s.lasts
		err := s.reader.read(ctx, js, &s.kind, func(m jetstream.Msg, about *jetstream.MsgMetadata) {
			if tenant, bytes := s.kind.weigh(m); bytes > 0 {
				s.weights.add(tenant, bytes, about.Timestamp)
			}
		})
		return s.weights.kept(now), err
	}
	if now.Before(s.rests) {
		return s.weights.kept(now), nil
	}
	var all weights
	defer s.reader.close(ctx, js, &s.kind)
	err := s.reader.read(ctx, js, &s.kind, func(m jetstream.Msg, about *jetstream.MsgMetadata) {
		if tenant, bytes := s.kind.weigh(m); bytes > 0 {
			all.add(tenant, bytes, about.Timestamp)
		}
	})
	if err == nil {
		s.weights = all
		s.rests = time.Now().Add(restAfter(time.Since(now)))
	}
	return s.weights.kept(now), err
}

// restAfter is for how long what was read anew holds, when reading it took so long.
func restAfter(took time.Duration) time.Duration { return min(weighRests*took, restsMost) }

// forget is for a stream that has so little that nobody can have too much.
func (s *scale) forget(ctx context.Context, js jetstream.JetStream) {
	s.reader.close(ctx, js, &s.kind)
	*s = scale{kind: s.kind}
}

// weigher weighs everything, while its node leads CALLS.
type weigher struct {
	scales []scale
	said   map[lightcone.TenantID]excess // who has too much, as was said last; nil = nothing was
	saidAt time.Time
}

// look weighs once, and says who has too much: after each kind, for all may take long.
func (w *weigher) look(ctx context.Context, c *Client) error {
	calls, err := c.store.streamInfo(ctx, callsStream)
	if err != nil {
		return err
	}
	if calls.Cluster != nil && calls.Cluster.Leader != "" && calls.Cluster.Leader != c.nc.ConnectedServerName() {
		*w = weigher{}
		return nil
	}
	if w.scales == nil {
		if err := w.begin(ctx, c); err != nil {
			return err
		}
	}
	for i := range w.scales {
		err = errors.Join(err, w.scales[i].look(ctx, c))
		all := make(map[lightcone.TenantID]excess)
		for i := range w.scales {
			join(all, w.scales[i].beyond)
		}
		err = errors.Join(err, w.say(ctx, c, all))
	}
	return err
}

// begin takes over what another node said last: it holds for each kind until that has
// been weighed.
func (w *weigher) begin(ctx context.Context, c *Client) (err error) {
	if w.said, err = c.store.askBeyond(ctx); err != nil {
		return err
	}
	for _, k := range kinds(c.limits) {
		s := scale{kind: k, beyond: make(map[lightcone.TenantID]excess)}
		for tenant, e := range w.said {
			if e.Of == k.what {
				s.beyond[tenant] = e
			}
		}
		w.scales = append(w.scales, s)
	}
	return nil
}

// say lets all clients know, when there is something new, or it has to be said again.
func (w *weigher) say(ctx context.Context, c *Client, all map[lightcone.TenantID]excess) error {
	if w.said != nil && maps.Equal(w.said, all) && (len(all) == 0 || time.Since(w.saidAt) < beyondAgain) {
		return nil
	}
	m, err := message(beyondSubject, all, nil, "")
	if err != nil {
		return err
	}
	m.Header[nats.MsgTTLHdr] = []string{strconv.Itoa(int(beyondStays/time.Second)) + "s"}
	if _, err := c.store.publishOnce(ctx, m); err != nil {
		return err
	}
	for tenant, e := range all {
		if w.said[tenant] != e {
			c.logger.Warn("a tenant has its share of what the queue keeps", "tenant", tenant, "of", e.Of, "its queued calls end without being run", e.Far)
		}
	}
	w.said, w.saidAt = all, time.Now()
	return nil
}

// askBeyond is who has too much, as was said last.
func (s *store) askBeyond(ctx context.Context) (all map[lightcone.TenantID]excess, err error) {
	m, err := s.directGet(ctx, callsStream, beyondSubject)
	if err != nil || m == nil || m.Header.Get(headHeader) == "" { // without a head it marks that the word has expired
		return nil, err
	}
	return all, decode(m.Header.Get(headHeader), &all)
}

func (s *store) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("queue: find the stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}
