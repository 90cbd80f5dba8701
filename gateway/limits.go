package gateway

import (
	"fmt"
	"math"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// passage is one call's way through the gateway's own bound in calls and its
// tenant's limits. It holds both from enter and limit to leave.
type passage struct {
	gateway *Gateway
	asks    bool // its client has not sent the body yet; it holds nothing
	inside  bool // it counts as in flight
	tenant  lightcone.TenantID
	quota   lightcone.Quota
	grant   admission.Grant
	refused admission.Refusal // why limit said no
	left    admission.Standing
	limited bool // left, or refused, says what the tenant has
}

// enter counts the call as in flight, if there is room for it. It comes before
// anything else: finding out who calls costs more. A passage that asks only hears
// whether there is room.
func (g *Gateway) enter(p *passage) error {
	most := int64(g.config.MaxCallsInFlight)
	switch {
	case p.asks && g.inFlight.Load() < most:
		return nil
	case p.asks:
	case g.inFlight.Add(1) <= most:
		p.inside = true
		return nil
	default:
		g.inFlight.Add(-1)
	}
	return problem.New(problem.Overloaded, "Lightcone is busy with as many calls as it may take; this one was not run, so it is safe to send it again.")
}

// withRoom is the quota, with no more concurrent calls than the gateway has room for:
// whoever has as many in flight as are left for all others gets no more. So n tenants
// who take all they can leave an n+1st of the room to the rest. The rule is that of
// switches whose ports share memory (Choudhury and Hahne, "Dynamic queue length
// thresholds for shared-memory packet switches", 1998, with alpha = 1).
func (g *Gateway) withRoom(p *passage, quota *lightcone.Quota) lightcone.Quota {
	room := int64(g.config.MaxCallsInFlight) - g.inFlight.Load()
	if p.inside {
		room++ // its own place
	}
	bounded := *quota
	if bounded.ConcurrentCalls < 0 || int64(bounded.ConcurrentCalls) > room {
		bounded.ConcurrentCalls = int(max(room, 1))
	}
	return bounded
}

// limit takes what the call takes of its tenant's limits, or says which forbids
// it. For a passage that asks, it takes nothing.
func (g *Gateway) limit(p *passage, tenant lightcone.TenantID, quota *lightcone.Quota, now time.Time) error {
	p.tenant, p.quota = tenant, *quota
	bounded := g.withRoom(p, quota)
	if p.asks {
		p.refused = g.config.Tenants.Peek(tenant, &bounded, now)
	} else {
		p.grant, p.refused = g.config.Tenants.Admit(tenant, &bounded, now)
	}
	p.limited = p.refused.Limit != ""
	if p.refused.Limit == admission.ConcurrentCalls && bounded.ConcurrentCalls != quota.ConcurrentCalls {
		return problem.New(problem.Overloaded, "The tenant %s has as many calls in flight here as are left for all others; this one was not run. Send it again when one of those has been answered.", tenant)
	}
	return g.limitReached(tenant, quota, &p.refused)
}

// knock takes the token of a call that the queue has refused: one that only asks has
// not taken it yet, and could else knock on a full queue without any bound. It
// answers with refusal, or with that of the limit that has been reached meanwhile.
func (p *passage) knock(refusal error, now time.Time) error {
	if !p.asks {
		return refusal
	}
	p.asks = false
	if err := p.gateway.limit(p, p.tenant, &p.quota, now); err != nil {
		return err
	}
	p.left, p.limited = p.gateway.config.Tenants.Settle(p.grant, admission.Untold, lightcone.Usage{}, &p.quota, now), true
	return refusal
}

// leave gives back what the call holds: its answer is known. A second one does nothing.
func (p *passage) leave(outcome admission.Outcome, used lightcone.Usage) {
	if !p.inside {
		return
	}
	p.inside = false
	p.gateway.inFlight.Add(-1)
	if p.refused.Limit == "" && p.tenant != "" {
		p.left, p.limited = p.gateway.config.Tenants.Settle(p.grant, outcome, used, &p.quota, time.Now()), true
	}
}

// tell sets the fields that tell the call's client what its tenant has left.
func (p *passage) tell(response *fasthttp.Response, fields *limitFields) {
	switch {
	case !p.limited:
	case p.refused.Limit != "":
		fields.set(response, &p.quota, p.refused.Standing, max(min(p.refused.RetryAfter, longestLimit), time.Second))
	default:
		fields.set(response, &p.quota, p.left, math.MaxInt64)
	}
}

// limitReached is the problem behind a refusal, counted; nil when there is none.
func (g *Gateway) limitReached(tenant lightcone.TenantID, quota *lightcone.Quota, refused *admission.Refusal) error {
	if refused.Limit == "" {
		return nil
	}
	g.metrics.limited[refused.Limit].Inc()
	err := problem.New(problem.LimitReached, "%s", sentenceOf(tenant, quota, refused))
	err.Quota, err.RetryAfter = string(refused.Limit), refused.RetryAfter
	return err
}

// sentenceOf says which limit was reached, and what to do.
func sentenceOf(tenant lightcone.TenantID, quota *lightcone.Quota, refused *admission.Refusal) string {
	if refused.RetryAfter == admission.Never {
		return fmt.Sprintf("The quota %s of the tenant %s is 0, so none of its calls is run; ask whoever runs Lightcone for more.", refused.Limit, tenant)
	}
	allowed, next := "", ""
	switch refused.Limit {
	case admission.CallsPerSecond:
		allowed = fmt.Sprintf("%g calls a second", quota.CallsPerSecond)
		if quota.Burst > 0 {
			allowed += fmt.Sprintf(", %d at once", quota.Burst)
		}
		next = fmt.Sprintf("send the next one in %v", roundUp(refused.RetryAfter))
	case admission.ConcurrentCalls:
		allowed = fmt.Sprintf("%d calls at a time", quota.ConcurrentCalls)
		next = "send it again when one of those that run has been answered"
	case admission.CPUPerMonth:
		allowed = fmt.Sprintf("%g s of CPU time in a calendar month (UTC)", quota.CPUPerMonth.Seconds())
		next = nextMonth(refused)
	case admission.BytesPerMonth:
		allowed = fmt.Sprintf("%d bytes in and out in a calendar month (UTC)", quota.BytesPerMonth)
		next = nextMonth(refused)
	default:
		return fmt.Sprintf("The tenant %s has reached its limit of crashes: most of its last calls crashed the function or were stopped at their deadlines, so none is run for now; look into those, and try one in %v.", tenant, roundUp(refused.RetryAfter))
	}
	return fmt.Sprintf("The tenant %s has reached its quota %s: %s. This call was not run; %s.", tenant, refused.Limit, allowed, next)
}

// nextMonth says when the month ends, to the hour: a longer wait than Retry-After
// names, because a quota can be raised before.
func nextMonth(refused *admission.Refusal) string {
	return fmt.Sprintf("the next month begins in %d h, or ask whoever runs Lightcone for more", int64(math.Ceil(refused.RetryAfter.Hours())))
}

// roundUp makes a duration readable.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// outcomeOf is what the tenant's breaker makes of a call's end, on which a function
// worked for so long.
func outcomeOf(ran bool, exec time.Duration, err error) admission.Outcome {
	if !ran {
		return admission.Untold
	}
	if err == nil {
		return admission.Answered
	}
	switch {
	case KilledSlot(err):
		return admission.Crashed
	case exec > 0 && problem.Of(err).Kind == problem.DeadlineExceeded:
		return admission.Stopped
	default:
		return admission.Untold
	}
}

// usageOf is what counts of a call towards its tenant's month: nothing unless the
// function had it, and no answer that was not the function's.
func usageOf(c *call, ran bool, err error) lightcone.Usage {
	if !ran || err != nil && fault(problem.Of(err).Kind) == platform {
		return lightcone.Usage{}
	}
	used := lightcone.Usage{CPU: c.answer.CPU, BytesIn: int64(len(c.request.Body))}
	if err == nil {
		used.BytesOut = int64(len(c.answer.Body))
	}
	return used
}
