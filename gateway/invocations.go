package gateway

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// Invocations knows what has become of accepted calls. An id that is another tenant's
// is as unknown to it as one that is nobody's: problem.NotFound. When it cannot tell,
// it says problem.Overloaded.
type Invocations interface {
	// Find is the call's state now.
	Find(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error)
	// Result is what the call came to; problem.NotFinished while that is nothing. Its
	// memory is the caller's to read for as long as it likes.
	Result(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (functions.Result, error)
	// Cancel ends the call, if it has not ended by itself, and answers its state then.
	Cancel(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error)
}

// mostQuestions bounds the questions of one tenant about its calls that are under way
// at once. They are not calls: they take nothing of the tenant's rate and quotas.
const mostQuestions = 64

// invocationDocument is the answer about an accepted call. What is not known yet, or
// has not happened, is null.
type invocationDocument struct {
	ID         string                     `json:"id"`
	Function   lightcone.FunctionName     `json:"function"`
	Status     lightcone.InvocationStatus `json:"status"`
	Attempts   int                        `json:"attempts"`
	CreatedAt  time.Time                  `json:"created_at"`
	FinishedAt *time.Time                 `json:"finished_at"`
	Error      *string                    `json:"error"`
}

func documentOf(i *lightcone.Invocation) invocationDocument {
	d := invocationDocument{ID: i.ID.String(), Function: i.Function, Status: i.Status, Attempts: i.Attempts, CreatedAt: i.CreatedAt.UTC()}
	if !i.FinishedAt.IsZero() {
		finished := i.FinishedAt.UTC()
		d.FinishedAt = &finished
	}
	if i.Error != "" {
		d.Error = &i.Error
	}
	return d
}

// serveInvocation answers a question about an accepted call, or cancels it. Any key of
// the tenant whose call it is may do that, whatever its scopes: functions are what
// scopes speak of, and nothing of one is run here. text is where its id belongs, and
// requestID names this request while nothing names the call.
func (g *Gateway) serveInvocation(ctx *fasthttp.RequestCtx, conn *connection, asked route, text []byte, requestID string) {
	g.metrics.invocation(questionOf(ctx, asked), g.answerAbout(ctx, conn, asked, text, requestID))
}

// questionOf is what is asked, in a word for metrics.
func questionOf(ctx *fasthttp.RequestCtx, asked route) string {
	switch {
	case asked == routeResult:
		return "result"
	case ctx.IsDelete():
		return "cancel"
	default:
		return "status"
	}
}

// identify finds who asks about which call.
func (g *Gateway) identify(ctx *fasthttp.RequestCtx, text []byte, p *passage) (tenant lightcone.TenantID, id lightcone.CallID, err error) {
	if err = g.enter(p); err != nil {
		return tenant, id, err
	}
	if tenant, err = g.callers.Identify(bearer(ctx.Request.Header.PeekCanonical(keyAuthorization))); err != nil {
		return tenant, id, err
	}
	if id, err = lightcone.ParseCallID(text); err != nil {
		return tenant, id, problem.New(problem.NotFound, "There is no call %q of this key's tenant; ids are 26 digits and upper-case letters, as X-Call-Id has them.", truncate(text, 64))
	}
	return tenant, id, nil
}

// answerAbout answers a request about a call, and returns the outcome to count.
func (g *Gateway) answerAbout(ctx *fasthttp.RequestCtx, conn *connection, asked route, text []byte, requestID string) string {
	p := passage{gateway: g}
	defer p.leave(admission.Untold, lightcone.Usage{})
	tenant, id, err := g.identify(ctx, text, &p)
	if err != nil {
		return g.refuse(ctx, err, platform, requestID)
	}
	grant, free := g.config.Tenants.Look(tenant, mostQuestions, time.Now())
	if !free {
		refused := problem.New(problem.LimitReached, "The tenant %s asks about %d of its calls at once, which is as many as it may; ask again when one of those has been answered.", tenant, mostQuestions)
		refused.Quota, refused.RetryAfter = "concurrent_questions", time.Second
		return g.refuse(ctx, refused, platform, requestID)
	}
	defer g.config.Tenants.Looked(grant)
	asking, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	ctx.Response.Header.SetCanonical(headerCacheControl, noStore)
	if asked == routeResult {
		return g.answerResult(asking, ctx, conn, tenant, id, grant)
	}
	about := g.config.Invocations.Find
	if ctx.IsDelete() {
		about = g.config.Invocations.Cancel
	}
	invocation, err := about(asking, tenant, id)
	if err != nil {
		return g.refuse(ctx, err, platform, id.String())
	}
	ctx.Response.Header.SetCanonical(headerCallID, []byte(id.String()))
	writeJSON(ctx, fasthttp.StatusOK, documentOf(&invocation))
	return outcomeOK
}

// answerResult replays the call's result. Its memory is the tenant's until it is sent.
func (g *Gateway) answerResult(asking context.Context, ctx *fasthttp.RequestCtx, conn *connection, tenant lightcone.TenantID, id lightcone.CallID, grant admission.Grant) string {
	c := callPool.Get().(*call)
	conn.call = c // given back when the answer has been written, as a call's
	c.memory = holding{budget: &g.budget, grant: grant}
	if err := c.memory.reserve(0); err != nil {
		return g.refuse(ctx, err, platform, id.String())
	}
	result, err := g.config.Invocations.Result(asking, tenant, id)
	if err != nil {
		return g.refuse(ctx, err, platform, id.String())
	}
	c.memory.charge(int64(len(result.Body)))
	return g.replay(ctx, &result, id.String())
}
