package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errBehind says that the node that answered is not as new as it had to be, or that
// what was read was replaced meanwhile.
var errBehind = errors.New("queue: the node that answered lags behind")

// request is one try of a request to the nodes.
func (s *store) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("queue: request %s: %w", subject, err)
	}
	return m, nil
}

// directGet is the subject's last message, from any node; nil when there is none.
func (s *store) directGet(ctx context.Context, stream, subject string) (*nats.Msg, error) {
	m, err := s.request(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	return found(m)
}

// nextGet is the first message of a subject, which may have wildcards, from a sequence
// on, from any node; nil when there is none.
func (s *store) nextGet(ctx context.Context, stream, subject string, from uint64) (*nats.Msg, error) {
	ask, err := json.Marshal(map[string]any{"seq": max(from, 1), "next_by_subj": subject})
	if err != nil {
		return nil, err
	}
	m, err := s.request(ctx, "$JS.API.DIRECT.GET."+stream, ask)
	if err != nil {
		return nil, err
	}
	return found(m)
}

// led is a message as a stream's leader tells it.
type led struct {
	Seq        uint64
	Time       time.Time // of the node that led when it came
	Hdrs, Data []byte
}

// leaderGet is a message that the stream's leader has, where others may lag; nil when
// there is none.
func (s *store) leaderGet(ctx context.Context, stream string, which map[string]any) (*led, error) {
	ask, err := json.Marshal(which)
	if err != nil {
		return nil, err
	}
	m, err := s.request(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError
		Message *led
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("queue: get %s of %s: answer %.100q: %w", ask, stream, m.Data, err)
	}
	if e := answer.Error; e != nil && e.ErrorCode != codeNoMessage {
		return nil, fmt.Errorf("queue: get %s of %s: %w", ask, stream, e)
	}
	return answer.Message, nil
}

// found is a direct get's answer; nil when it is that there is nothing.
func found(m *nats.Msg) (*nats.Msg, error) {
	switch status := m.Header.Get("Status"); status {
	case "":
		return m, nil
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("queue: get: %s %s", status, m.Header.Get("Description"))
	}
}

// delete removes a message by its sequence. One that is gone is no error.
func (s *store) delete(ctx context.Context, stream string, sequence uint64) error {
	ask, err := json.Marshal(map[string]any{"seq": sequence, "no_erase": true})
	if err != nil {
		return err
	}
	m, err := s.request(ctx, "$JS.API.STREAM.MSG.DELETE."+stream, ask)
	if err != nil {
		return err
	}
	var answer struct{ Error *jetstream.APIError }
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("queue: delete %d of %s: answer %.100q: %w", sequence, stream, m.Data, err)
	}
	if e := answer.Error; e != nil && !strings.Contains(e.Description, "no message found") {
		return fmt.Errorf("queue: delete %d of %s: %w", sequence, stream, e)
	}
	return nil
}

// snapshots reads a record together with how new the node is that answers: a direct
// get of several subjects (NATS ADR-31) reads at one point of the node's log, and ends
// with that point. Its answers are several messages, so they have an inbox of their own.
type snapshots struct {
	nc    *nats.Conn
	inbox string // without the token
	sub   *nats.Subscription

	mu      sync.Mutex
	last    uint64
	waiting map[string]chan *nats.Msg // by token, of gets under way
}

// mostAnswers is the record, the barrier and the end.
const mostAnswers = 3

func (s *snapshots) open(nc *nats.Conn) (err error) {
	s.nc, s.inbox, s.waiting = nc, nc.NewInbox()+".", make(map[string]chan *nats.Msg)
	s.sub, err = nc.Subscribe(s.inbox+"*", func(m *nats.Msg) {
		s.mu.Lock()
		to := s.waiting[strings.TrimPrefix(m.Subject, s.inbox)]
		s.mu.Unlock()
		select {
		case to <- m: // a nil channel takes nothing: nobody waits any more
		default:
		}
	})
	return err
}

// get reads the last message of a subject of CALLS, nil when there is none, from a node
// whose log reaches least; errBehind when it does not.
func (s *snapshots) get(ctx context.Context, subject string, least uint64) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	answers := make(chan *nats.Msg, mostAnswers)
	s.mu.Lock()
	s.last++
	token := strconv.FormatUint(s.last, 36)
	s.waiting[token] = answers
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, token)
		s.mu.Unlock()
	}()
	ask, err := json.Marshal(map[string]any{"multi_last": []string{subject, barrierSubject}})
	if err != nil {
		return nil, err
	}
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+callsStream, s.inbox+token, ask); err != nil {
		return nil, fmt.Errorf("queue: get %s: %w", subject, err)
	}
	var record *nats.Msg
	for {
		select {
		case m := <-answers:
			switch status := m.Header.Get("Status"); {
			case status == "" && m.Header.Get(jetstream.SubjectHeader) == subject:
				record = m
			case status == "":
			case status == "204":
				point, err := strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
				if err != nil || point < least {
					return nil, errBehind
				}
				return record, nil
			case status == "404": // the barrier is always there, but was replaced as it was read
				return nil, errBehind
			default:
				return nil, fmt.Errorf("queue: get %s: %s %s", subject, status, m.Header.Get("Description"))
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("queue: get %s: %w", subject, ctx.Err())
		}
	}
}
