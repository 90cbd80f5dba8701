package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/internal/problem"
)

// DeadLetter is a call that was given up: attempts or age used up.
type DeadLetter struct {
	Invocation  lightcone.Invocation // as it died; Error says why
	Timeout     time.Duration
	Callback    string
	Query       []byte
	ContentType []byte
	Accept      []byte
	InputBytes  int64
	Input       []byte // nil in lists
	Generation  int    // times that it was redriven
}

func (l *letter) dead(input []byte) DeadLetter {
	return DeadLetter{
		Invocation: l.Record.invocation(), Timeout: l.Job.Timeout, Callback: l.Job.Callback, Query: l.Job.Query,
		ContentType: l.Job.ContentType, Accept: l.Job.Accept, InputBytes: l.Job.InputBytes, Input: input,
		Generation: l.Job.Generation,
	}
}

// DeadLetters lists dead letters of a tenant ("" = of all) by id, those after a given
// id (zero = from the first), at most so many.
func (c *Client) DeadLetters(ctx context.Context, tenant lightcone.TenantID, after lightcone.CallID, most int) ([]DeadLetter, error) {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	stream, err := c.js.Stream(ctx, deadStream)
	if err != nil {
		return nil, asProblem(err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(deadSubject(cmp.Or(string(tenant), "*"), "*")))
	if err != nil {
		return nil, asProblem(err)
	}
	var ids []string // a tenant and an id would not do: ids alone are the order
	for subject := range info.State.Subjects {
		if id := subject[strings.LastIndexByte(subject, '.')+1:]; id > after.String() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var letters []DeadLetter
	for _, id := range ids {
		if len(letters) >= most {
			break
		}
		l, _, _, err := c.store.letter(ctx, id)
		if err != nil {
			return nil, asProblem(err)
		}
		if l != nil { // not gone since
			letters = append(letters, l.dead(nil))
		}
	}
	return letters, nil
}

// letter reads a dead letter of any tenant; nil when there is none.
func (s *store) letter(ctx context.Context, id string) (l *letter, body []byte, sequence uint64, err error) {
	m, err := s.leaderGet(ctx, deadStream, map[string]any{"last_by_subj": deadSubject("*", id)})
	if m == nil || err != nil {
		return nil, nil, 0, err
	}
	headers, err := nats.DecodeHeadersMsg(m.Hdrs)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("queue: dead letter %s: %w", id, err)
	}
	l = new(letter)
	return l, m.Data, m.Seq, decode(headers.Get(headHeader), l)
}

// letter finds a dead letter that has to be there.
func (c *Client) letter(ctx context.Context, id lightcone.CallID) (*letter, []byte, uint64, error) {
	l, body, sequence, err := c.store.letter(ctx, id.String())
	if err == nil && l == nil {
		err = problem.New(problem.NotFound, "There is no dead letter %s.", id)
	}
	return l, body, sequence, asProblem(err)
}

// DeadLetter is one dead letter with its input. Error: problem.NotFound, also when the
// letter is there but its input, which was too large for it, is not any more.
func (c *Client) DeadLetter(ctx context.Context, id lightcone.CallID) (DeadLetter, error) {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	l, body, _, err := c.letter(ctx, id)
	if err == nil && l.Job.FarInput {
		body, err = c.warehouse.get(ctx, inputsBucket, inputName(l.Job.Tenant, id))
		if err == nil && body == nil {
			err = problem.New(problem.NotFound, "The input of the dead letter %s is not in the queue's store any more: only its entry in the list is left, to be dropped.", id)
		}
	}
	if err != nil {
		return DeadLetter{}, asProblem(err)
	}
	return l.dead(body), nil
}

// Redrive queues a dead call again, with all its attempts. Killed at any point, it may
// be repeated. It answers with the call's state after it. Errors: problem.NotFound, also
// when the call's input is not there any more;
// problem.LimitReached and problem.Overloaded as in Accept, and the latter while the call
// has not ended, though there is a letter.
func (c *Client) Redrive(ctx context.Context, id lightcone.CallID) (lightcone.Invocation, error) {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	l, body, sequence, err := c.letter(ctx, id)
	if err != nil {
		return lightcone.Invocation{}, err
	}
	r, err := c.redrive(ctx, l, body, sequence, func(ctx context.Context) error { return c.renewInput(ctx, &l.Job) })
	if err != nil {
		return lightcone.Invocation{}, asProblem(err)
	}
	return r.invocation(), nil
}

// renewInput stores a far input once more, unless it is so young that it outlives the
// letter of a call that is queued now and dies.
func (c *Client) renewInput(ctx context.Context, j *job) error {
	name := inputName(j.Tenant, j.ID)
	stored, err := c.warehouse.stored(ctx, inputsBucket, name)
	if err != nil || !stored.IsZero() && c.now().Sub(stored) < inputSpare/2 {
		return err
	}
	body, err := c.warehouse.get(ctx, inputsBucket, name)
	if err == nil && body == nil {
		err = problem.New(problem.NotFound, "The input of the dead letter %s is not in the queue's store any more: it cannot be run again, only dropped.", j.ID)
	}
	if err != nil {
		return err
	}
	return c.warehouse.putInput(ctx, j, body)
}

// Drop removes a dead letter for good, with its input. Error: problem.NotFound.
func (c *Client) Drop(ctx context.Context, id lightcone.CallID) error {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	l, _, sequence, err := c.letter(ctx, id)
	if err != nil {
		return err
	}
	if err := c.store.exhume(ctx, sequence); err != nil {
		return asProblem(err)
	}
	if l.Job.FarInput {
		return asProblem(c.warehouse.dropInput(ctx, l.Job.Tenant, id))
	}
	return nil
}
