package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/gateway"
	"lightcone/internal/problem"
	"lightcone/internal/run"
	"lightcone/queue"
	"lightcone/queue/callback"
)

// callbackFlags are the operator's networks: the same for who accepts a URL and for who
// calls it.
type callbackFlags struct {
	allowed, forbidden []string
}

func (c *callbackFlags) register(f *pflag.FlagSet) {
	f.StringSliceVar(&c.allowed, "callback-allow", nil, "also call back to `NETWORK`, such as 10.1.0.0/16, and not only to the public Internet (repeatable)")
	f.StringSliceVar(&c.forbidden, "callback-forbid", nil, "never call back to `NETWORK`: the public addresses of the region's own machines (repeatable)")
}

// rules are where callbacks may go.
func (c *callbackFlags) rules() (callback.Rules, error) {
	var networks [2][]netip.Prefix
	for i, flag := range []struct {
		name string
		said []string
	}{{"callback-allow", c.allowed}, {"callback-forbid", c.forbidden}} {
		for _, text := range flag.said {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return callback.Rules{}, commandline.Usagef("--%s %q: want a network, such as 10.1.0.0/16", flag.name, text)
			}
			networks[i] = append(networks[i], network)
		}
	}
	rules, err := callback.NewRules(networks[0], networks[1])
	if err != nil {
		return callback.Rules{}, commandline.Usagef("--callback-allow and --callback-forbid: %w", err)
	}
	return rules, nil
}

// noCallbacks refuses every URL.
func noCallbacks(string) error {
	return problem.New(problem.BadParameter, "This Lightcone calls nobody back, because its operator has not turned that on; leave X-Callback-Url out, and ask for the call's state instead.")
}

const callbackKeyUsage = "`file` with the key that callbacks are signed with; on a second line, the one before it"

// callbackKeys reads the keys that callbacks are signed with: the current one, and the
// one before it while receivers may know only that. None when no file is named.
func callbackKeys(file string) ([]callback.RegionKey, error) {
	if file == "" {
		return nil, nil
	}
	text, err := secretFile(file)
	if err != nil {
		return nil, fmt.Errorf("--callback-key-file: %w", err)
	}
	lines := strings.Fields(text)
	if len(lines) > 2 {
		return nil, fmt.Errorf("--callback-key-file %s: there are %d keys; want one, or two while it changes", file, len(lines))
	}
	var keys []callback.RegionKey
	for _, line := range lines {
		key := callback.RegionKey(line)
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("--callback-key-file %s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// callbackSecret tells tenants what they verify callbacks with; nil without a key.
func callbackSecret(keys []callback.RegionKey) func(lightcone.TenantID) string {
	if len(keys) == 0 {
		return nil
	}
	return func(tenant lightcone.TenantID) string { return callback.SecretOf(keys[0], tenant).Text() }
}

// callbacksAtOnce is how many callbacks a node delivers at once.
const callbacksAtOnce = 64

// messenger delivers the callbacks that the queue hands out.
type messenger struct {
	sender   *callback.Sender
	attempts *prometheus.CounterVec // by outcome
	logger   *slog.Logger
}

func newMessenger(rules callback.Rules, keys []callback.RegionKey, registry *prometheus.Registry, logger *slog.Logger) (*messenger, error) {
	sender, err := callback.New(callback.Config{Rules: rules, Keys: keys, StatusOf: gateway.StatusOf, AtOnce: callbacksAtOnce})
	if err != nil {
		return nil, err
	}
	m := &messenger{sender: sender, logger: logger.With("component", "callbacks"), attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lightcone_callback_attempts_total",
		Help: "Attempts at callbacks, by outcome: delivered, again (it failed, and will be tried again), given-up (it failed for good), postponed (there were too many at once, or the node was stopping).",
	}, []string{"outcome"})}
	for _, outcome := range []string{"delivered", "again", "given-up", "postponed"} {
		m.attempts.WithLabelValues(outcome)
	}
	return m, registry.Register(m.attempts)
}

// deliver makes one attempt.
func (m *messenger) deliver(ctx context.Context, due *queue.Callback) queue.Verdict {
	notice := callback.Notice{Invocation: due.Invocation, URL: due.URL, Result: due.Result, Elsewhere: due.Omitted}
	verdict := m.sender.Deliver(ctx, &notice, due.Attempt)
	logger := m.logger.With("call", due.Invocation.ID, "tenant", due.Invocation.Tenant, "attempt", due.Attempt)
	outcome := string(verdict.Outcome)
	switch {
	case verdict.Uncounted:
		outcome = "postponed"
	case verdict.Outcome == callback.Again:
		logger.Debug("a callback is tried again", "reason", verdict.Reason, "after", verdict.After)
	case verdict.Outcome == callback.GivenUp:
		outcome = "given-up"
		logger.Warn("a callback was given up", "reason", verdict.Reason)
	}
	m.attempts.WithLabelValues(outcome).Inc()
	return queue.Verdict{Done: verdict.Outcome != callback.Again, After: verdict.After, Uncounted: verdict.Uncounted}
}

// start delivers until it is stopped.
func (m *messenger) start(group *run.Group, client *queue.Client) run.Stop {
	return inBackground(func(ctx context.Context) {
		if err := client.Deliver(ctx, callbacksAtOnce, m.deliver); err != nil {
			group.Fail("callbacks", err)
		}
	})
}
