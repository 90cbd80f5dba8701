package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/gateway"
	"lightcone/internal/problem"
	"lightcone/usage"
)

// usageTotal adds up what the bucket has and what nodes have not shipped yet. It is
// gateway.Usage.
type usageTotal struct {
	reader *usage.Reader
	own    *usage.Ledger
	others *otherLedgers // nil: there are none
	logger *slog.Logger
	turn   chan struct{} // full while somebody adds up: it may take much memory
}

func newUsageTotal(reader *usage.Reader, own *usage.Ledger, others *otherLedgers, logger *slog.Logger) *usageTotal {
	return &usageTotal{reader: reader, own: own, others: others, logger: logger, turn: make(chan struct{}, 1)}
}

// Total is gateway.Usage's. The nodes are asked first: what they ship meanwhile is left
// out of what the bucket has.
func (u *usageTotal) Total(ctx context.Context, tenant lightcone.TenantID, from, to time.Time) (lightcone.UsageTotal, error) {
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return lightcone.UsageTotal{}, cannotAddUp(ctx.Err())
	}
	period := usage.Period{From: from, To: to}
	var answers []usage.Unshipped
	missing := 0
	if u.others != nil {
		answers, missing = u.others.unshipped(ctx, tenant, period)
	}
	own, err := u.own.Totals(ctx, tenant, period)
	if err != nil {
		return lightcone.UsageTotal{}, cannotAddUp(err)
	}
	answers = append(answers, own)
	away, err := u.reader.Away(ctx, period, answers)
	if err != nil {
		return lightcone.UsageTotal{}, cannotAddUp(err)
	}
	missing = max(missing, away) // those that Consul lists and that do not answer are among them, if they ever reached the bucket
	shipped, err := u.reader.Sum(ctx, tenant, period, usage.Covered(answers))
	var damaged usage.Damaged
	if errors.As(err, &damaged) { // what is missing then is as unknown as an absent node's
		u.logger.Error("usage is added up without what is damaged", "error", err)
		missing += len(damaged)
	} else if err != nil {
		return lightcone.UsageTotal{}, cannotAddUp(err)
	}
	sum := usage.Merge(shipped, answers, missing)
	total := lightcone.UsageTotal{From: from, To: to, Harvest: sum.Harvest}
	for _, s := range sum.Sums {
		total.Functions = append(total.Functions, lightcone.FunctionUsage{
			Function: s.Function, Calls: s.Calls, Used: lightcone.Usage{CPU: s.CPU, BytesIn: s.BytesIn, BytesOut: s.BytesOut},
		})
	}
	return total, nil
}

func cannotAddUp(err error) error {
	return problem.New(problem.Overloaded, "Your usage cannot be added up at the moment; ask again, or for a shorter time.").Because(err)
}

// otherLedgers are those of the processes that Consul lists.
type otherLedgers struct {
	catalogue   *consul.Client
	services    []string // their management listeners
	operatorKey string
	logger      *slog.Logger
}

// newOtherLedgers knows where the gateways, and the workers of functions, keep theirs.
func newOtherLedgers(catalogue *consul.Client, functions []gateway.Declared, operatorKey string, logger *slog.Logger) *otherLedgers {
	o := &otherLedgers{catalogue: catalogue, services: []string{gatewayManagement}, operatorKey: operatorKey, logger: logger}
	for _, d := range functions {
		o.services = append(o.services, workerManagement(d.Spec.Name))
	}
	return o
}

// ledgerAnswerWithin is how long a node may take to answer: its whole disk may be full
// of what a bucket that is away has not taken.
const ledgerAnswerWithin = 5 * time.Second

var errNoLedger = errors.New("it keeps no ledger")

// unshipped asks all of them at once. Those that do not answer are missing; so is, as
// one, each service of which Consul does not tell. A process without a ledger is none.
func (o *otherLedgers) unshipped(ctx context.Context, tenant lightcone.TenantID, period usage.Period) (answers []usage.Unshipped, missing int) {
	ctx, cancel := context.WithTimeout(ctx, ledgerAnswerWithin)
	defer cancel()
	path := unshippedPath + "?" + url.Values{
		"tenant": {string(tenant)}, "from": {period.From.Format(time.RFC3339)}, "to": {period.To.Format(time.RFC3339)},
	}.Encode()
	var mu sync.Mutex // guards the results
	var asking sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	for _, service := range o.services {
		instances, err := o.catalogue.Instances(ctx, service)
		if err != nil {
			o.logger.Warn("nobody knows who else keeps usage", "service", service, "error", err)
			mu.Lock()
			missing++
			mu.Unlock()
			continue
		}
		for _, instance := range instances {
			asking.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				answer, err := o.ask(ctx, instance.Address, path)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					answers = append(answers, answer)
				case !errors.Is(err, errNoLedger):
					o.logger.Warn("a node does not tell what it has not shipped", "node", instance.ID, "error", err)
					missing++
				}
			})
		}
	}
	asking.Wait()
	return answers, missing
}

// ask asks one.
func (o *otherLedgers) ask(ctx context.Context, address, path string) (answer usage.Unshipped, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return answer, err
	}
	request.Header.Set("Authorization", "Bearer "+o.operatorKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		err = json.NewDecoder(http.MaxBytesReader(nil, response.Body, mebibyte)).Decode(&answer)
		if err == nil {
			err = usage.ValidateNode(answer.Node)
		}
		return answer, err
	case http.StatusNotFound:
		return answer, errNoLedger
	default:
		return answer, fmt.Errorf("%s%s answered %s", address, path, response.Status)
	}
}
