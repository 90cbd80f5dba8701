package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sort"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/internal/problem"
)

// handle answers one request.
func (g *Gateway) handle(ctx *fasthttp.RequestCtx) {
	conn := ctx.Conn().(*connection)
	if conn.state.Load() == claimed {
		// A shutdown closed the connection just before this request was seen:
		// its client was told by the close, so the call must not run.
		ctx.SetConnectionClose()
		return
	}
	id := g.newCallID()
	text := id.String()
	defer func() {
		if cause := recover(); cause != nil {
			g.recovered(ctx, conn, cause, text)
		}
		g.finishAnswer(ctx)
	}()
	g.dispatch(ctx, conn, id, text)
}

// finishAnswer sets what every answer has.
func (g *Gateway) finishAnswer(ctx *fasthttp.RequestCtx) {
	if g.draining.Load() {
		ctx.SetConnectionClose()
	}
	// Set by the handler, it also makes fasthttp send each answer before it looks
	// for the next request, so an idle connection never holds an unsent answer.
	// An error means that the connection is gone, which writing finds out.
	_ = ctx.SetWriteDeadline(time.Now().Add(g.config.WriteTimeout))
}

func (g *Gateway) dispatch(ctx *fasthttp.RequestCtx, conn *connection, id lightcone.CallID, text string) {
	if err := framing(ctx.Request.Header.RawHeaders()); err != nil {
		g.metrics.none.count(g.refuse(ctx, err, platform, text))
		closeAfterAnswer(ctx, conn) // nobody knows where the next request would begin
		return
	}
	found, name := routeOf(ctx.URI().PathOriginal())
	if err := g.checkRoute(ctx, found); err != nil {
		g.metrics.none.count(g.refuse(ctx, err, platform, text))
		g.settleUnread(ctx, conn)
		return
	}
	switch found {
	case routeCall, routeAccept:
		g.serveCall(ctx, conn, found, name, id, text)
	case routeInvocation, routeResult:
		g.serveInvocation(ctx, conn, found, name, text)
	case routeUsage:
		g.serveUsage(ctx, text)
	case routeHealth:
		ctx.Response.Header.SetCanonical(headerCallID, []byte(text))
		writeJSON(ctx, fasthttp.StatusOK, map[string]bool{"live": true})
	case routeReady:
		ctx.Response.Header.SetCanonical(headerCallID, []byte(text))
		g.serveReady(ctx)
	}
}

// checkRoute refuses what is not routed, and bodies where there is no use for one.
func (g *Gateway) checkRoute(ctx *fasthttp.RequestCtx, found route) error {
	switch {
	case found == routeNone:
		return problem.New(problem.NotFound, "There is nothing at this path; functions are called with POST /function/{name}.")
	case found.queues() && g.config.Queue == nil:
		return problem.New(problem.NotFound, "This Lightcone has no queue, so it takes no calls to be done later; call the function with POST /function/{name} and wait for its answer.")
	case found == routeUsage && g.config.Usage == nil:
		return problem.New(problem.NotFound, "This Lightcone does not write down what calls use, so there is nothing to tell.")
	case !found.takes(ctx.Method()):
		ctx.Response.Header.SetCanonical(headerAllow, []byte(found.methods()))
		return problem.New(problem.MethodNotAllowed, "This path does not take the method %s; use %s.", truncate(ctx.Method(), 32), found.methods())
	}
	if length := ctx.Request.Header.ContentLength(); !found.calls() && (length > 0 || length == chunked) {
		return problem.New(problem.BadParameter, "This path takes no body; send the request without one.")
	}
	return nil
}

// readyDocument is the answer of /readyz.
type readyDocument struct {
	Ready     bool            `json:"ready"`
	Reason    string          `json:"reason,omitempty"` // why not
	Functions []readyFunction `json:"functions"`
	Details   any             `json:"details,omitempty"`
}

type readyFunction struct {
	Name    lightcone.FunctionName `json:"name"`
	Slots   int                    `json:"slots"`
	Waiting int                    `json:"waiting"`
	Running int                    `json:"running"`
}

func (g *Gateway) serveReady(ctx *fasthttp.RequestCtx) {
	document := readyDocument{Ready: true, Functions: []readyFunction{}}
	status := fasthttp.StatusOK
	if err := g.readiness(); err != nil {
		document.Ready, document.Reason = false, err.Error()
		status = fasthttp.StatusServiceUnavailable
	}
	for _, lane := range *g.lanes.Load() {
		if lane.spec.Load() != nil {
			document.Functions = append(document.Functions, lane.report())
		}
	}
	sort.Slice(document.Functions, func(i, j int) bool { return document.Functions[i].Name < document.Functions[j].Name })
	if g.config.Details != nil {
		document.Details = g.config.Details()
	}
	writeJSON(ctx, status, document)
	setRetryAfter(&ctx.Response, status, 0, rand.Float64())
}

// writeJSON answers with value, which must marshal: a panic is answered 500.
func writeJSON(ctx *fasthttp.RequestCtx, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.SetBodyRaw(append(body, '\n'))
}

// expect says, from a call's headers, whether its client should send the body it
// asks about with Expect: 100-continue. A refusal is the whole answer: fasthttp
// keeps what is in the response, sets the returned status and closes.
func (g *Gateway) expect(ctx *fasthttp.RequestCtx) (status int) {
	conn := ctx.Conn().(*connection)
	text := g.newCallID().String()
	defer func() {
		if cause := recover(); cause != nil {
			g.recovered(ctx, conn, cause, text)
			status = ctx.Response.StatusCode()
		}
		_ = ctx.SetWriteDeadline(time.Now().Add(g.config.WriteTimeout)) // see finishAnswer
	}()
	found, name := routeOf(ctx.URI().PathOriginal())
	err := framing(ctx.Request.Header.RawHeaders())
	if err == nil {
		err = g.checkRoute(ctx, found)
	}
	counted := g.metrics.none
	p := passage{gateway: g, asks: true}
	if err == nil && found.calls() {
		var asked admitted
		asked, err = g.admit(&ctx.Request.Header, found, name, time.Now(), &p)
		if asked.lane != nil {
			counted = asked.lane.metrics
		}
	}
	if err == nil {
		return fasthttp.StatusContinue
	}
	p.tell(&ctx.Response, &limitFields{})
	counted.count(g.refuse(ctx, err, platform, text))
	conn.linger = true // some clients send the body without waiting
	return ctx.Response.StatusCode()
}

// malformed answers what fasthttp could not read as a request, and closes. Its errors
// quote what was received, and so the key, too: only their kind goes any further.
func (g *Gateway) malformed(ctx *fasthttp.RequestCtx, err error) {
	conn := ctx.Conn().(*connection)
	conn.linger = true
	found := problem.New(problem.BadParameter, "The request is not well-formed HTTP/1.1, so nothing of it was run.").Because(fmt.Errorf("http server: a %T", err))
	as := rowOf(found.Kind)
	var tooLong *fasthttp.ErrSmallBuffer
	switch {
	case errors.As(err, &tooLong):
		found = problem.New(problem.TooLarge, "The request line and headers are longer than %d bytes together; send fewer or shorter ones.", g.config.MaxHeaderBytes)
		as = row{fasthttp.StatusRequestHeaderFieldsTooLarge, "Headers too large"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		found = problem.New(problem.RequestTimeout, "No complete request came within %v.", g.config.HeaderTimeout)
		as = rowOf(found.Kind)
	case errors.Is(err, errSpeaksTLS):
		found = problem.New(problem.BadParameter, "This port speaks plain HTTP and got a TLS handshake; call it with http://.")
	}
	text := g.newCallID().String()
	g.logRefusal(ctx, found, text)
	writeProblemAs(&ctx.Response, found, as, platform, text, rand.Float64())
	g.metrics.none.count(string(found.Kind))
	_ = conn.SetWriteDeadline(time.Now().Add(g.config.WriteTimeout)) // an error means the connection is gone
}

// recovered answers a call whose handling panicked. Its memory is not used
// again: whoever panicked may have left a reader behind.
func (g *Gateway) recovered(ctx *fasthttp.RequestCtx, conn *connection, cause any, id string) {
	g.logger.Error("a call's handling panicked", "call", id, "panic", cause, "stack", string(debug.Stack()))
	if conn.call != nil {
		conn.call.forsake()
		conn.call = nil
	}
	ctx.Response.Reset()
	writeProblem(&ctx.Response, problem.Of(errors.New("panic")), platform, id, 0)
	g.metrics.none.count(string(problem.Internal))
	closeAfterAnswer(ctx, conn)
}

// logRefusal logs bugs of ours for the operator, and everything else only when
// debugging.
func (g *Gateway) logRefusal(ctx *fasthttp.RequestCtx, found *problem.Error, id string) {
	level := slog.LevelDebug
	if found.Kind == problem.Internal {
		level = slog.LevelError
	}
	if g.logger.Enabled(context.Background(), level) {
		g.logger.LogAttrs(context.Background(), level, "call refused", slog.String("call", id),
			slog.String("path", truncate(ctx.Path(), 128)), slog.Any("error", error(found)))
	}
}
