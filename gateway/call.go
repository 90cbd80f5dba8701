package gateway

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// call is one call's state, from its headers to the last byte of its answer.
// Calls are reused.
type call struct {
	request functions.Call
	answer  functions.Answer
	ticket  ticket
	body    *buffer // nil once nobody reads it any more
	memory  holding // its body's, then its answer's
	timing  []byte
	limits  limitFields
	record  lightcone.UsageRecord // here, so that keeping it allocates nothing
}

var callPool = sync.Pool{New: func() any {
	return &call{ticket: ticket{turn: make(chan struct{}, 1)}}
}}

// keptAnswer is the longest answer buffer that a call keeps for the next one.
const keptAnswer = 1 << 20

// finish gives back what the call holds. Nobody may look at its body or its
// answer any more.
func (c *call) finish() {
	c.letGoOfBody()
	c.memory.release(c.memory.bytes)
	kept := c.answer.Body[:0]
	if cap(kept) > keptAnswer {
		kept = nil
	}
	*c = call{ticket: ticket{turn: c.ticket.turn}, timing: c.timing[:0], limits: c.limits, answer: functions.Answer{Body: kept}}
	callPool.Put(c)
}

// forsake stops counting the memory of a call that somebody may still look at; the
// memory itself is left to the garbage collector.
func (c *call) forsake() { c.memory.release(c.memory.bytes) }

func (c *call) letGoOfBody() {
	if c.body == nil {
		return
	}
	c.memory.release(int64(len(c.body.bytes)))
	c.body.release()
	c.body, c.request.Body = nil, nil
}

// admitted is what a call's headers alone decide.
type admitted struct {
	lane     *lane
	spec     *functions.Spec
	tenant   lightcone.TenantID
	deadline time.Time // of the call; of its body alone when the queue takes it
	wishes   wishes
}

// admit authenticates, validates and admits a call, or says why not. For a passage
// that asks, it takes nothing but the token of a call that the queue refuses.
func (g *Gateway) admit(header *fasthttp.RequestHeader, asked route, name []byte, now time.Time, p *passage) (admitted, error) {
	found := (*g.lanes.Load())[string(name)]
	function := found.nameFor(name)
	a := admitted{lane: found}
	if err := g.enter(p); err != nil {
		return a, err
	}
	if err := g.writable(); err != nil {
		return a, err
	}
	var quota lightcone.Quota
	var err error
	if a.tenant, quota, err = g.callers.Authorize(bearer(header.PeekCanonical(keyAuthorization)), function); err != nil {
		return a, err
	}
	if found != nil {
		a.spec = found.spec.Load()
	}
	if a.spec == nil {
		return a, problem.New(problem.NotFound, "There is no function %q here; check its name.", string(function))
	}
	timeout, err := timeoutOf(header.PeekCanonical(keyTimeout), a.spec)
	if err != nil {
		return a, err
	}
	if a.wishes, err = g.wishesOf(header, asked, a.spec); err != nil {
		return a, err
	}
	a.deadline = now.Add(timeout)
	if a.wishes.async {
		a.wishes.timeout, a.deadline = timeout, now.Add(acceptedBodyTime)
	}
	if int64(header.ContentLength()) > a.spec.MaxBodyBytes {
		return a, tooLarge(int(a.spec.MaxBodyBytes))
	}
	now = time.Now() // finding out who calls may have taken long
	// After what is wrong with the call, which costs no token, and before the queue,
	// whose refusals make a region grow: a tenant over its limits must not do that.
	if err := g.limit(p, a.tenant, &quota, now); err != nil {
		return a, err
	}
	if a.wishes.async {
		return a, nil // the line of those who wait is none of its business
	}
	if err := found.judge(now, a.deadline); err != nil {
		return a, p.knock(err, now)
	}
	return a, nil
}

// serveCall lives one call, on its connection's goroutine. id is its text.
func (g *Gateway) serveCall(ctx *fasthttp.RequestCtx, conn *connection, asked route, name []byte, callID lightcone.CallID, id string) {
	p := passage{gateway: g}
	defer p.leave(admission.Untold, lightcone.Usage{}) // of a call whose handling panics
	arrived := time.Now()
	admitted, err := g.admit(&ctx.Request.Header, asked, name, arrived, &p)
	counted := g.metrics.none
	if admitted.lane != nil {
		counted = admitted.lane.metrics
	}
	if err != nil {
		p.leave(admission.Untold, lightcone.Usage{})
		p.tell(&ctx.Response, &limitFields{})
		counted.count(g.refuse(ctx, err, platform, id))
		g.settleUnread(ctx, conn)
		return
	}
	c := callPool.Get().(*call)
	conn.call = c // given back by fasthttp's next state of the connection: the answer is written then
	c.request = functions.Call{
		ID:       callID,
		Function: admitted.spec.Name,
		Tenant:   admitted.tenant,
		Deadline: admitted.deadline,
	}
	c.ticket.deadline = admitted.deadline
	c.memory = holding{budget: &g.budget, grant: p.grant}
	if err := g.readBody(ctx, conn, c, &admitted); err != nil {
		p.leave(admission.Untold, lightcone.Usage{})
		p.tell(&ctx.Response, &c.limits)
		counted.count(g.refuse(ctx, err, platform, id))
		if problem.Of(err).Kind == problem.Overloaded {
			g.settleUnread(ctx, conn) // its client did nothing wrong
		} else {
			closeAfterAnswer(ctx, conn)
		}
		return
	}
	if admitted.wishes.async {
		g.enqueue(ctx, c, &p, &admitted, counted, id)
		return
	}
	ran, err := g.run(c, admitted.lane)
	c.memory.charge(int64(len(c.answer.Body)))
	p.leave(outcomeOf(ran, c.answer.Exec, err), usageOf(c, ran, err))
	recorded := g.record(c, arrived, ran, err)
	p.tell(&ctx.Response, &c.limits)
	c.letGoOfBody()
	if ran {
		waited := c.ticket.started.Sub(c.ticket.joined)
		c.timing = appendTiming(c.timing[:0], waited, c.answer.Exec, c.answer.CPU)
		ctx.Response.Header.SetCanonical(headerServerTiming, c.timing)
		counted.queued.Observe(waited.Seconds())
		counted.exec.Observe(c.answer.Exec.Seconds())
	}
	switch {
	case err == nil:
		counted.count(g.writeAnswer(ctx, &c.answer, id))
	case ran:
		counted.count(g.refuse(ctx, err, fault(problem.Of(err).Kind), id))
	default:
		counted.count(g.refuse(ctx, err, platform, id))
	}
	if recorded {
		g.answered(c.record.Start)
	}
}

// readBody reads the call's body and fills the call from what came with it.
func (g *Gateway) readBody(ctx *fasthttp.RequestCtx, conn *connection, c *call, a *admitted) error {
	header := &ctx.Request.Header
	if length := header.ContentLength(); length > 0 || length == chunked {
		reader := bodyReader{
			stream:   ctx.RequestBodyStream(),
			arm:      conn.SetReadDeadline,
			memory:   &c.memory,
			stall:    g.config.BodyStallTimeout,
			deadline: a.deadline,
			accepts:  a.wishes.async,
			limit:    int(a.spec.MaxBodyBytes),
		}
		body, n, err := reader.read(length)
		c.body = body
		if err != nil {
			return err
		}
		c.request.Body = body.bytes[:n]
	} else if err := c.memory.reserve(0); err != nil { // no body, but its answer will take memory, too
		return err
	}
	// Taken only now: a chunked body's trailer may have moved them.
	c.request.Query = ctx.URI().QueryString()
	c.request.ContentType = header.ContentType()
	c.request.Accept = header.PeekCanonical(keyAccept)
	c.request.Traceparent = header.PeekCanonical(keyTraceparent)
	return nil
}

// run waits for a slot and runs the call in it. ran is whether the function has
// seen the call.
func (g *Gateway) run(c *call, l *lane) (ran bool, err error) {
	if err := g.quarantined(&c.request); err != nil {
		return false, err
	}
	c.ticket.confined = g.confines(c.request.Tenant)
	for err = l.enter(&c.ticket); err == nil; err = l.comeBack(&c.ticket) {
		c.ticket.started = time.Now()
		if !c.ticket.started.Before(c.ticket.deadline) {
			l.abandon()
			return false, lateInQueue()
		}
		// Again: those in front of it in the line may have had the same input.
		if err := g.quarantined(&c.request); err != nil {
			l.abandon()
			return false, err
		}
		var full bool
		if full, err = g.runOnce(c, l); !full {
			return true, err
		}
	}
	return false, err
}

// runOnce hands the call to the worker. full means that the worker had no room:
// the slot is then still the call's. Otherwise it has been given back.
func (g *Gateway) runOnce(c *call, l *lane) (full bool, err error) {
	returned := false
	defer func() {
		if !returned {
			l.abandon() // the worker panicked; recovered answers the call
		}
	}()
	err = g.worker.Run(&c.request, &c.answer)
	returned = true
	kind := problem.Kind("")
	if err != nil {
		kind = problem.Of(err).Kind
	}
	g.strike(&c.request, err) // before the slot is given back: the next in line may have the same input
	switch kind {
	case problem.Overloaded:
		c.ticket.refusal = err // for comeBack
		return true, nil
	case problem.WorkerLost:
		l.abandon() // how long the loss took to show says nothing of how long calls take
	default:
		l.leave(time.Since(c.ticket.started) - c.answer.Lost)
	}
	return false, err
}

// writeAnswer passes on what the function said, and returns the outcome to count.
func (g *Gateway) writeAnswer(ctx *fasthttp.RequestCtx, answer *functions.Answer, id string) string {
	if answer.Problem != "" {
		return g.refuse(ctx, named(answer), function, id)
	}
	if answer.Status < http.StatusOK || answer.Status > 599 {
		return g.refuse(ctx, problem.New(problem.FunctionFailed, "The function answered with the status %d, which is not one of a final answer.", answer.Status), function, id)
	}
	response := &ctx.Response
	response.SetStatusCode(answer.Status)
	response.Header.SetCanonical(headerCallID, []byte(id))
	if answer.ContentType != "" {
		response.Header.SetContentType(answer.ContentType)
	}
	if answer.Vary != "" {
		response.Header.SetCanonical(headerVary, []byte(answer.Vary))
	}
	response.SetBodyRaw(answer.Body)
	if answer.Status < http.StatusBadRequest {
		return outcomeOK
	}
	response.Header.SetCanonical(headerError, []byte(function))
	setRetryAfter(response, answer.Status, 0, rand.Float64())
	return outcomeFunctionError
}

// longestDetail bounds a function's sentence in a problem document, in bytes.
const longestDetail = 1 << 10

// named is the problem that a function named, if it is one that functions may name.
func named(answer *functions.Answer) *problem.Error {
	if !functions.FunctionMay(answer.Problem) {
		return problem.New(problem.FunctionFailed, "The function named the problem %q, which is not for functions to name.", truncate([]byte(answer.Problem), 64))
	}
	return &problem.Error{Kind: answer.Problem, Detail: truncate(answer.Body, longestDetail)}
}

// truncate is at most the first n bytes of text, cut between characters.
func truncate(text []byte, n int) string {
	if len(text) <= n {
		return string(text)
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return string(text[:n])
}

// refuse answers with err's problem document and returns the outcome to count.
func (g *Gateway) refuse(ctx *fasthttp.RequestCtx, err error, whose blame, id string) string {
	found := problem.Of(err)
	g.logRefusal(ctx, found, id)
	writeProblem(&ctx.Response, found, whose, id, rand.Float64())
	return string(found.Kind)
}

// settleUnread reads a refused body's rest if that is quick, so that the
// connection can be kept, or else has it closed after the answer.
func (g *Gateway) settleUnread(ctx *fasthttp.RequestCtx, conn *connection) {
	stream := ctx.RequestBodyStream()
	if stream != nil && !discard(stream, ctx.Request.Header.ContentLength(), conn.SetReadDeadline) {
		closeAfterAnswer(ctx, conn)
	}
}

// closeAfterAnswer has the connection closed once its client has had time to
// read the answer.
func closeAfterAnswer(ctx *fasthttp.RequestCtx, conn *connection) {
	ctx.SetConnectionClose()
	conn.linger = true
}
