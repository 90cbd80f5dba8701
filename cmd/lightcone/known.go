package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/gateway/admission"
	"lightcone/gateway/quarantine"
	"lightcone/identity"
	"lightcone/identity/edge"
	"lightcone/identity/management"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/run"
)

// Where the management plane and the gateways keep their documents: in Consul's KV,
// or below the same names in the file of `lightcone dev`.
const (
	identityPrefix   = "lightcone/identity/"
	quarantinePrefix = "lightcone/"       // its paths begin with quarantine/
	spentPrefix      = "lightcone/spent/" // on one machine; a region counts in Redis
)

// threshold is all that a gateway asks of a call before a function sees it: who
// calls, what they may still use, and whether the input is known to kill.
type threshold struct {
	directory  *edge.Directory
	tenants    *admission.Table
	quarantine *quarantine.Book
}

// thresholdConfig says where a threshold learns what it knows.
type thresholdConfig struct {
	identities document.Store
	inputs     document.Store   // in quarantine
	redis      *edge.Redis      // nil: there is none
	region     admission.Region // nil: nobody else counts
	registry   *prometheus.Registry
	logger     *slog.Logger
}

// start starts a threshold as parts of the group, to be stopped after the gateway.
func (c thresholdConfig) start(ctx context.Context, group *run.Group) (*threshold, error) {
	t := new(threshold)
	var err error
	if t.directory, err = edge.New(edge.Config{Origin: c.identities, Redis: c.redis, Logger: c.logger.With("component", "identity"), Metrics: c.registry}); err != nil {
		return nil, err
	}
	if t.tenants, err = admission.NewTable(admission.DefaultConfig(), time.Now()); err != nil {
		return nil, err
	}
	if t.quarantine, err = quarantine.New(quarantine.DefaultConfig(), c.inputs, c.registry, c.logger.With("component", "quarantine")); err != nil {
		return nil, err
	}
	_ = group.Start(ctx, "identity", func(context.Context) (run.Stop, error) { return inBackground(t.directory.Run), nil })
	_ = group.Start(ctx, "quarantine", func(context.Context) (run.Stop, error) { return inBackground(t.quarantine.Run), nil })
	if c.region == nil {
		return t, nil
	}
	_ = group.Start(ctx, "spending", func(context.Context) (run.Stop, error) {
		return followSpending(t.tenants, c.region, c.registry, c.logger)
	})
	return t, nil
}

// inBackground runs something that goes on until its context ends, and returns what
// stops it.
func inBackground(act func(context.Context)) run.Stop {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { act(ctx) })
	return func(context.Context) error {
		cancel()
		running.Wait()
		return nil
	}
}

// managed are the management plane's pages, and those that are with it, by pattern.
func managed(manager *management.Manager, book *quarantine.Book, further map[string]http.Handler) map[string]http.Handler {
	pages := quarantined(book)
	maps.Copy(pages, further)
	var beside []string
	for pattern := range pages {
		if !strings.HasSuffix(pattern, "/") { // each is there with a slash, too
			beside = append(beside, pattern)
		}
	}
	slices.Sort(beside)
	pages["/v1/"] = management.Routes(manager, beside...)
	return pages
}

// quarantined are the pages of the inputs that are not run, by pattern.
func quarantined(book *quarantine.Book) map[string]http.Handler {
	return map[string]http.Handler{"/v1/quarantine": book.Handler(), "/v1/quarantine/": book.Handler()}
}

// admitDemo makes the tenant demo and lets it call with the key, as far as it is
// not so already.
func admitDemo(ctx context.Context, manager *management.Manager, key identity.Key, actor string) error {
	const demo = lightcone.TenantID("demo")
	ctx = management.WithActor(ctx, actor)
	if _, _, err := manager.CreateTenant(ctx, demo, "the key in demo.key"); err != nil && problem.Of(err).Kind != management.Conflict {
		return fmt.Errorf("make the tenant %s: %w", demo, err)
	}
	record := identity.Record{ID: key.ID(), Digest: key.Digest(), Tenant: demo, Scopes: identity.Scopes{All: true}}
	if _, err := manager.ImportKey(ctx, record); err != nil {
		return errors.Join(fmt.Errorf("take in demo.key"), err)
	}
	return nil
}
