package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

const (
	headHeader = "Lightcone-Head" // a record, job, letter or news; the payload is the body that goes with it
	tryFor     = 2 * time.Second  // one request to the nodes; a leader that died does not answer
)

// store is JetStream as the protocol's ledger and outbox.
type store struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	limits   Limits
	lengths  lengths
	fullness fullness
	barrier  barrier
	snaps    snapshots
	spawn    func(func())
}

func callSubject(tenant lightcone.TenantID, id lightcone.CallID) string {
	return "call." + string(tenant) + "." + id.String()
}

func workSubject(function lightcone.FunctionName, lane int, tenant lightcone.TenantID) string {
	return "work." + string(function) + "." + strconv.Itoa(lane) + "." + string(tenant)
}

// message is one whose header holds head. JetStream drops it when it knows id already;
// "" = it is not to look.
func message(subject string, head any, body []byte, id string) (*nats.Msg, error) {
	text, err := encode(head)
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: subject, Header: nats.Header{headHeader: {text}}, Data: body}
	if id != "" {
		m.Header[nats.MsgIdHdr] = []string{id}
	}
	return m, nil
}

// publishOnce is one try. Errors are refusal's.
func (s *store) publishOnce(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	ack, err := s.js.PublishMsg(ctx, m)
	return ack, refusal(err)
}

// publish tries until it is known that the message is stored, or refused, or ctx ends.
// The message has an id, or may be stored twice.
func (s *store) publish(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	for failures := 1; ; failures++ {
		ack, err := s.publishOnce(ctx, m)
		if err == nil || lasting(err) {
			return ack, err
		}
		if retry.Pause(ctx, retry.BackOff(failures, 50*time.Millisecond, time.Second, rand.Float64())) != nil {
			return nil, fmt.Errorf("queue: publish to %s: %w", m.Subject, err)
		}
	}
}

// write is a compare-and-set on the subject's last sequence.
func (s *store) write(ctx context.Context, r *record, body []byte, after uint64) (uint64, error) {
	m, err := message(callSubject(r.Tenant, r.ID), r, body, "")
	if err != nil {
		return 0, err
	}
	m.Header[nats.ExpectedLastSubjSeqHdr] = []string{strconv.FormatUint(after, 10)}
	if r.Status.Final() {
		m.Header[nats.MsgTTLHdr] = []string{strconv.Itoa(int(max(s.limits.Keep, time.Second)/time.Second)) + "s"}
	}
	ack, err := s.publishOnce(ctx, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// read asks any node.
func (s *store) read(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (entry, error) {
	for failures := 1; ; failures++ {
		m, err := s.directGet(ctx, callsStream, callSubject(tenant, id))
		if err == nil {
			return entryOf(m)
		}
		if retry.Pause(ctx, retry.BackOff(failures, 50*time.Millisecond, time.Second, rand.Float64())) != nil {
			return entry{}, err
		}
	}
}

// readNow asks any node that is known to be new enough.
func (s *store) readNow(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (entry, error) {
	subject := callSubject(tenant, id)
	for failures := 1; ; failures++ {
		least, err := s.barrier.cross(ctx)
		for tries := 0; err == nil && tries < 8; tries++ { // a node that lags is not the only one
			var m *nats.Msg
			if m, err = s.snaps.get(ctx, subject, least); err == nil {
				return entryOf(m)
			}
			if errors.Is(err, errBehind) && retry.Pause(ctx, time.Duration(tries)*5*time.Millisecond) == nil {
				err = nil
			}
		}
		if retry.Pause(ctx, retry.BackOff(failures, 50*time.Millisecond, time.Second, rand.Float64())) != nil {
			return entry{}, fmt.Errorf("queue: read %s: %w", subject, errors.Join(err, ctx.Err()))
		}
	}
}

// writeBarrier is the barrier's write.
func (s *store) writeBarrier() (uint64, error) {
	ack, err := s.publishOnce(context.Background(), &nats.Msg{Subject: barrierSubject})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// entryOf reads a record; m is nil when there is none. A message without a head marks
// a record that has expired: there is a sequence, and nothing else.
func entryOf(m *nats.Msg) (entry, error) {
	if m == nil {
		return entry{}, nil
	}
	sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return entry{}, fmt.Errorf("queue: a record without its sequence: %w", err)
	}
	e := entry{sequence: sequence}
	if head := m.Header.Get(headHeader); head != "" {
		e.record, e.body = new(record), m.Data
		err = decode(head, e.record)
	}
	return e, err
}

// enqueue publishes the call to the shorter of its tenant's lanes, or the other when
// that one is full.
func (s *store) enqueue(ctx context.Context, j *job, body []byte) (uint64, error) {
	order, stale := s.lengths.choose(j.Function, j.Tenant, time.Now())
	if stale {
		s.spawn(func() { s.hearLengths(j.Function) })
	}
	m, err := message("", j, body, messageID(j.ID, j.Generation))
	if err != nil {
		return 0, err
	}
	for _, lane := range order {
		m.Subject = workSubject(j.Function, lane, j.Tenant)
		ack, err := s.publish(ctx, m)
		if !errors.Is(err, errShareFull) {
			if errors.Is(err, errFull) {
				full := unavailable("The queue is full: try again later.", err)
				return 0, &refusedError{full}
			}
			if err != nil {
				return 0, err
			}
			return ack.Sequence, nil
		}
	}
	full := problem.New(problem.LimitReached, "Tenant %s has its share of calls of %s queued: wait until some are done.", j.Tenant, j.Function)
	full.Quota, full.RetryAfter = "queued_calls", retryAfter
	return 0, &refusedError{full}
}

func deadSubject(tenant, id string) string { return "dead." + tenant + "." + id }

func (s *store) bury(ctx context.Context, l *letter, body []byte) (uint64, error) {
	m, err := message(deadSubject(string(l.Job.Tenant), l.Job.ID.String()), l, body, "")
	if err != nil {
		return 0, err
	}
	ack, err := s.publish(ctx, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (s *store) exhume(ctx context.Context, sequence uint64) error {
	return s.delete(ctx, deadStream, sequence)
}

// news is what a callback's message says.
type news struct {
	Invocation lightcone.Invocation
	URL        string
	Result     *resultHead `json:",omitempty"`
}

func (s *store) announce(ctx context.Context, r *record, body []byte) error {
	m, err := message("callback."+string(r.Tenant)+"."+r.ID.String(), &news{r.invocation(), r.Callback, r.Result}, body, messageID(r.ID, r.Generation))
	if err != nil {
		return err
	}
	_, err = s.publish(ctx, m)
	return err
}

func (n *news) callback(body []byte) *Callback {
	c := &Callback{Invocation: n.Invocation, URL: n.URL}
	if n.Result != nil {
		c.Result, c.Omitted = n.Result.result(body), n.Result.Object != ""
	}
	return c
}
