package gateway

import (
	"context"
	"math"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// Usage adds up what calls used.
type Usage interface {
	// Total adds up a tenant's calls that arrived from from to before to, whole hours,
	// and says of how many of those who keep usage. It says problem.Overloaded when it
	// cannot.
	Total(ctx context.Context, tenant lightcone.TenantID, from, to time.Time) (lightcone.UsageTotal, error)
}

const (
	usageTime   = 20 * time.Second     // for adding up
	longestSpan = 100 * 24 * time.Hour // that is added up at once
	mostUsages  = 2                    // questions of one tenant about its usage at once
)

// usageDocument is the answer about a tenant's usage.
type usageDocument struct {
	From      time.Time       `json:"from"`
	To        time.Time       `json:"to"`
	Harvest   float64         `json:"harvest"`
	Totals    usageSums       `json:"totals"`
	Functions []functionUsage `json:"functions"`
}

type usageSums struct {
	Calls    int64 `json:"calls"`
	CPU      int64 `json:"cpu_ns"`
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}

type functionUsage struct {
	Function lightcone.FunctionName `json:"function"`
	usageSums
}

func usageDocumentOf(total *lightcone.UsageTotal) usageDocument {
	d := usageDocument{From: total.From.UTC(), To: total.To.UTC(), Harvest: total.Harvest, Functions: []functionUsage{}}
	if total.Harvest < 1 { // two digits say enough, and never that nothing is missing
		d.Harvest = min(math.Round(100*total.Harvest)/100, 0.99)
	}
	for _, f := range total.Functions {
		sums := usageSums{f.Calls, int64(f.Used.CPU), f.Used.BytesIn, f.Used.BytesOut}
		d.Functions = append(d.Functions, functionUsage{f.Function, sums})
		d.Totals.Calls += sums.Calls
		d.Totals.CPU += sums.CPU
		d.Totals.BytesIn += sums.BytesIn
		d.Totals.BytesOut += sums.BytesOut
	}
	return d
}

// serveUsage answers a tenant about its own usage. Any of its keys may ask.
func (g *Gateway) serveUsage(ctx *fasthttp.RequestCtx, id string) {
	outcome := outcomeOK
	if err := g.answerUsage(ctx, id); err != nil {
		outcome = g.refuse(ctx, err, platform, id)
	}
	g.metrics.none.count(outcome)
}

func (g *Gateway) answerUsage(ctx *fasthttp.RequestCtx, id string) error {
	p := passage{gateway: g}
	defer p.leave(admission.Untold, lightcone.Usage{})
	if err := g.enter(&p); err != nil {
		return err
	}
	tenant, err := g.callers.Identify(bearer(ctx.Request.Header.PeekCanonical(keyAuthorization)))
	if err != nil {
		return err
	}
	preferred, err := preferencesOf(ctx.Request.Header.PeekAll(keyPrefer))
	if err != nil {
		return err
	}
	from, to, err := periodOf(ctx.QueryArgs(), time.Now())
	if err != nil {
		return err
	}
	grant, free := g.config.Tenants.Look(tenant, mostUsages, time.Now())
	if !free {
		return problem.New(problem.Overloaded, "The tenant %s has asked for its usage %d times at once, which is as often as it may; ask again when one of those has been answered.", tenant, mostUsages)
	}
	defer g.config.Tenants.Looked(grant)
	asking, cancel := context.WithTimeout(context.Background(), usageTime)
	defer cancel()
	ctx.Response.Header.SetCanonical(headerCacheControl, noStore)
	total, err := g.config.Usage.Total(asking, tenant, from, to)
	if err != nil {
		return err
	}
	if preferred.strict {
		if total.Harvest < 1 {
			return problem.New(problem.Overloaded, "Only %.0f %% of those who keep usage have answered, so the sum may lack some; without Prefer: handling=strict you get what there is.", math.Floor(100*total.Harvest))
		}
		ctx.Response.Header.SetCanonical(headerPreferenceApplied, []byte("handling=strict"))
	}
	ctx.Response.Header.SetCanonical(headerCallID, []byte(id))
	writeJSON(ctx, fasthttp.StatusOK, usageDocumentOf(&total))
	return nil
}

// periodOf reads from and to, and answers whole hours that hold what is between them,
// and no hour that has not begun. Without them, it is the month so far; without from,
// the month that to ends.
func periodOf(query *fasthttp.Args, now time.Time) (from, to time.Time, err error) {
	now = now.UTC()
	to = now
	for name, value := range query.All() {
		switch string(name) {
		case "from":
			from, err = momentOf("from", value)
		case "to":
			to, err = momentOf("to", value)
		default:
			err = problem.New(problem.BadParameter, "The parameter %q is unknown; want from and to.", truncate(name, 64))
		}
		if err != nil {
			return from, to, err
		}
	}
	if to.After(now) {
		to = now
	}
	if from.IsZero() {
		last := to.Add(-1) // a month's end is the next one's beginning
		from = time.Date(last.Year(), last.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	if !from.Before(to) {
		return from, to, problem.New(problem.BadParameter, "The parameter from is %s, and what ends at %s (now, or to) cannot begin then; want an earlier time.", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	if to.Sub(from) > longestSpan {
		return from, to, problem.New(problem.BadParameter, "The parameters from and to are %d days apart; want at most %d.", int(to.Sub(from).Hours()/24), int(longestSpan.Hours()/24))
	}
	from = from.Truncate(time.Hour)
	if whole := to.Truncate(time.Hour); whole.Before(to) {
		to = whole.Add(time.Hour)
	}
	return from, to, nil
}

// momentOf reads a time or a date, which is its first moment in UTC.
func momentOf(name string, value []byte) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if moment, err := time.Parse(layout, string(value)); err == nil && moment.Year() >= 2000 && moment.Year() < 2200 {
			return moment.UTC(), nil
		}
	}
	return time.Time{}, problem.New(problem.BadParameter, "The parameter %s is %q; want a time such as 2026-11-28T09:00:00Z, or a date such as 2026-11-28, from 2000 to 2199.", name, truncate(value, 64))
}
