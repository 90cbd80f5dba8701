package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// Queue takes calls whose clients do not wait. Its errors are problems: Overloaded
// when it cannot take one or cannot tell, LimitReached when the tenant has as many
// there as it may, KeyReused for an idempotency key that came with another call.
type Queue interface {
	// Accept keeps the call and is done with it when it returns: nil means that the
	// call will be run, whatever breaks. With an idempotency key that came before, it
	// answers with the invocation of then.
	Accept(ctx context.Context, call *functions.Queued) (lightcone.Invocation, error)
	// Await waits for the call's end and answers with its state, the latest that is
	// known when ctx ends first.
	Await(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error)
}

// The bounds of what the queue is asked. An election of its leader takes a few seconds.
const (
	acceptTime       = 5 * time.Second // for accepting a call whose body is in
	askTime          = 5 * time.Second // for a question about one
	acceptedBodyTime = time.Minute     // for the whole body of a call that is to be accepted
)

// wishes are what a call's headers say of how its client wants to hear of the end.
type wishes struct {
	async    bool // not by waiting: the queue takes the call
	waits    bool // but for a while
	wait     time.Duration
	timeout  time.Duration // of each attempt
	key      string        // Idempotency-Key
	callback string
}

// wishesOf reads the headers of a call that came by the route asked.
func (g *Gateway) wishesOf(header *fasthttp.RequestHeader, asked route, spec *functions.Spec) (w wishes, err error) {
	preferred, err := preferencesOf(header.PeekAll(keyPrefer))
	if err != nil {
		return w, err
	}
	w.async = asked == routeAccept || preferred.respondAsync
	if !w.async {
		for _, name := range []string{keyIdempotencyKey, keyCallbackURL} {
			if len(header.PeekAll(name)) > 0 {
				return w, problem.New(problem.BadParameter, "The header %s is for calls that are queued; send Prefer: respond-async with it, or POST to /async-function/%s.", name, spec.Name)
			}
		}
		return w, nil
	}
	if g.config.Queue == nil {
		return w, problem.New(problem.BadParameter, "This Lightcone has no queue, so it cannot honour Prefer: respond-async; leave that out and wait for the answer.")
	}
	w.waits, w.wait = preferred.waits, preferred.wait
	if w.key, err = idempotencyKeyOf(header.PeekAll(keyIdempotencyKey)); err != nil {
		return w, err
	}
	w.callback, err = g.callbackOf(header.PeekAll(keyCallbackURL))
	return w, err
}

// longestKey is the longest Idempotency-Key, in bytes.
const longestKey = 255

// idempotencyKeyOf reads Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07)
// as opaque text, the quotes that the draft asks for included.
func idempotencyKeyOf(lines [][]byte) (string, error) {
	switch {
	case len(lines) == 0:
		return "", nil
	case len(lines) > 1:
		return "", problem.New(problem.BadParameter, "The header Idempotency-Key came %d times; send it once.", len(lines))
	case len(lines[0]) == 0 || len(lines[0]) > longestKey || !isVisible(lines[0]):
		return "", problem.New(problem.BadParameter, "The header Idempotency-Key is %q, of %d bytes; want 1 to %d visible ASCII characters.", truncate(lines[0], 64), len(lines[0]), longestKey)
	}
	return string(lines[0]), nil
}

// longestCallback is the longest X-Callback-Url, in bytes.
const longestCallback = 2048

// callbackOf reads X-Callback-Url. What its host may be is not for this package to say.
func (g *Gateway) callbackOf(lines [][]byte) (string, error) {
	if len(lines) == 0 {
		return "", nil
	}
	text := string(lines[0])
	refuse := func(why string) (string, error) {
		return "", problem.New(problem.BadParameter, "The header X-Callback-Url is %q: %s.", truncate(lines[0], 128), why)
	}
	if len(lines) > 1 {
		return refuse("it came more than once; send it once")
	}
	if len(text) > longestCallback {
		return refuse("it has " + strconv.Itoa(len(text)) + " bytes; want at most " + strconv.Itoa(longestCallback))
	}
	parsed, err := url.Parse(text)
	switch {
	case err != nil || !isVisible(lines[0]) || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.Hostname() == "" || !isPort(parsed.Port()):
		return refuse("want a whole URL such as https://example.com/done")
	case parsed.User != nil:
		return "", problem.New(problem.BadParameter, "The header X-Callback-Url holds a user or a password, which others may see; callbacks are signed instead.")
	case parsed.Fragment != "" || parsed.RawFragment != "" || text[len(text)-1] == '#':
		return refuse("a fragment, after #, is never sent; leave it out")
	}
	if g.config.CheckCallback != nil {
		return text, g.config.CheckCallback(text)
	}
	return text, nil
}

// isPort says whether a URL's port is none or one that can be dialled.
func isPort(text string) bool {
	if text == "" {
		return true
	}
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// isVisible says whether text is of visible ASCII characters alone.
func isVisible(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// enqueue has the queue take a call that has been read, and answers. Its client's
// place, and its tenant's, are taken until then, also while it waits.
func (g *Gateway) enqueue(ctx *fasthttp.RequestCtx, c *call, p *passage, a *admitted, counted *laneMetrics, id string) {
	invocation, err := g.hand(c, a)
	c.letGoOfBody()
	var result *functions.Result
	if err == nil && a.wishes.wait > 0 {
		invocation, result = g.awaitEnd(invocation, a.wishes.wait)
	}
	if result != nil {
		c.memory.charge(int64(len(result.Body)))
	}
	p.leave(admission.Untold, lightcone.Usage{})
	p.tell(&ctx.Response, &c.limits)
	if err != nil {
		counted.count(g.refuse(ctx, err, platform, id))
		return
	}
	if result != nil {
		g.replay(ctx, result, invocation.ID.String())
		counted.count(outcomeAwaited)
	} else {
		g.writeAccepted(ctx, &invocation)
		counted.count(outcomeAccepted)
	}
	ctx.Response.Header.SetCanonical(headerPreferenceApplied, a.wishes.applied())
}

// hand gives the call to the queue.
func (g *Gateway) hand(c *call, a *admitted) (lightcone.Invocation, error) {
	if err := g.quarantined(&c.request); err != nil {
		return lightcone.Invocation{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), acceptTime)
	defer cancel()
	began := time.Now()
	invocation, err := g.config.Queue.Accept(ctx, &functions.Queued{
		Call:           c.request,
		Timeout:        a.wishes.timeout,
		IdempotencyKey: a.wishes.key,
		Callback:       a.wishes.callback,
	})
	g.metrics.accept.Observe(time.Since(began).Seconds())
	return invocation, err
}

// awaitEnd waits for a call's end, and fetches its result. Without one, the invocation
// is as it was last known: the call has been accepted, whatever fails here.
func (g *Gateway) awaitEnd(accepted lightcone.Invocation, wait time.Duration) (lightcone.Invocation, *functions.Result) {
	ctx, cancel := context.WithTimeout(g.open, wait)
	defer cancel()
	latest, err := g.config.Queue.Await(ctx, accepted.Tenant, accepted.ID)
	if err != nil {
		return accepted, nil
	}
	if !latest.Status.Final() {
		return latest, nil
	}
	asking, cancelAsking := context.WithTimeout(context.Background(), askTime)
	defer cancelAsking()
	result, err := g.config.Invocations.Result(asking, latest.Tenant, latest.ID)
	if err != nil {
		return latest, nil
	}
	return latest, &result
}

// applied is the value of Preference-Applied (RFC 7240, section 3).
func (w *wishes) applied() []byte {
	applied := []byte("respond-async")
	if w.waits {
		applied = strconv.AppendInt(append(applied, ", wait="...), int64(w.wait/time.Second), 10)
	}
	return applied
}

// writeAccepted says that a call has been accepted, and where to ask about it.
func (g *Gateway) writeAccepted(ctx *fasthttp.RequestCtx, invocation *lightcone.Invocation) {
	id := invocation.ID.String()
	writeJSON(ctx, http.StatusAccepted, documentOf(invocation))
	ctx.Response.Header.SetCanonical(headerCallID, []byte(id))
	ctx.Response.Header.SetCanonical(headerLocation, []byte(invocationPath+id))
}

// replay answers with what a queued call came to, and returns the outcome to count.
func (g *Gateway) replay(ctx *fasthttp.RequestCtx, result *functions.Result, id string) string {
	if result.Status != 0 || result.Exec > 0 {
		ctx.Response.Header.SetCanonical(headerServerTiming, appendTiming(nil, result.Waited, result.Exec, result.CPU))
	}
	if !result.Answered() {
		found := result.Refusal()
		writeProblem(&ctx.Response, found, fault(found.Kind), id, rand.Float64())
		return string(found.Kind)
	}
	return g.writeAnswer(ctx, result.Answer(), id)
}
