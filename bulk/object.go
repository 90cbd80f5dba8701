package bulk

import (
	"context"
	"crypto/rand"
	"errors"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// scratch is a worker's memory, used for one object after another.
type scratch struct {
	input  []byte
	answer functions.Answer
}

// one works on one object and keeps the books. An object that the end of ctx
// cut short is in none of them.
func (r *running) one(ctx context.Context, c candidate, s *scratch) {
	r.patience.budget.Deposit()
	id := r.work.fingerprint(c)
	known, seen := r.history[id]
	switch {
	case seen && known.bad != nil:
		r.bad(c, id, *known.bad, true)
		return
	case seen:
		if there, v := r.hasOutput(ctx, c, known); there || v != nil {
			r.skipped(ctx, c, v)
			return
		}
	}
	v := r.read(ctx, c, s)
	if v.outcome == done {
		if v = r.call(ctx, s); v.outcome == done {
			v = r.write(ctx, c, s)
		}
	}
	switch {
	case v.outcome == done:
		r.done(c, id, s)
	case v.outcome == bad:
		r.bad(c, id, v, false)
	case ctx.Err() != nil: // neither: it was not tried to the end
	case v.outcome == ended:
		r.end(problem.New(v.kind, "%s", v.detail))
	default:
		r.givenUp(c, v)
	}
}

// hasOutput says whether the output that a journal knows of is there; its
// verdict is nil unless the storage would not tell.
func (r *running) hasOutput(ctx context.Context, c candidate, known finished) (bool, *verdict) {
	var size int64
	err := r.patience.try(ctx, func() (bool, error) {
		var err error
		size, err = r.config.Out.Size(ctx, c.output(known.media))
		return err != nil && !errors.Is(err, ErrNotFound), err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		v := judgeStorage(err)
		return false, &v
	}
	return err == nil && size == known.size, nil
}

// read fetches the object, unless its listing says that it is too long.
func (r *running) read(ctx context.Context, c candidate, s *scratch) verdict {
	most := r.config.Function.MaxBodyBytes
	if c.Size > most {
		return tooLong(most)
	}
	if !usable(c.Key) {
		return unusable()
	}
	err := r.patience.try(ctx, func() (bool, error) {
		var err error
		s.input, err = r.config.In.Read(ctx, c.Key, most, s.input[:0])
		return err != nil && judgeRead(err, most).outcome == passing, err
	})
	if err != nil {
		return judgeRead(err, most)
	}
	return verdict{outcome: done}
}

// usable says whether the drivers hand a key through as it is: they write
// control characters and ../ in another way, refuse what is not UTF-8, and a
// folder takes a//b for a/b.
func usable(key string) bool {
	if path.Clean("/"+key) != "/"+key || strings.Contains(key, "../") {
		return false
	}
	for _, character := range key {
		if character < ' ' {
			return false
		}
	}
	return utf8.ValidString(key)
}

// call runs the function once there is a slot, again where it did not come to run.
func (r *running) call(ctx context.Context, s *scratch) verdict {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return verdict{outcome: passing}
	}
	var v verdict
	_ = r.patience.try(ctx, func() (bool, error) {
		v = r.attempt(s)
		return v.outcome == passing, nil
	})
	return v
}

func (r *running) attempt(s *scratch) verdict {
	now := time.Now()
	id, err := lightcone.NewCallID(now, rand.Reader)
	if err != nil {
		return judge(&s.answer, err)
	}
	s.answer = functions.Answer{Body: s.answer.Body[:0]}
	err = r.config.Runner.Run(&functions.Call{
		ID: id, Function: r.config.Function.Name, Tenant: r.config.Tenant,
		Deadline: now.Add(r.config.Function.MaxTimeout),
		Query:    []byte(r.work.query), Body: s.input,
	}, &s.answer)
	r.spent(len(s.input), &s.answer)
	return judge(&s.answer, err)
}

// write puts the answer in place. The end of ctx does not cut it short: the work
// is done.
func (r *running) write(ctx context.Context, c candidate, s *scratch) verdict {
	name := c.output(s.answer.ContentType)
	err := r.patience.try(ctx, func() (bool, error) {
		err := r.config.Out.Write(context.WithoutCancel(ctx), name, s.answer.ContentType, s.answer.Body)
		return err != nil, err
	})
	if err != nil {
		return judgeStorage(err)
	}
	return verdict{outcome: done}
}
