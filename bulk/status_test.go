package bulk

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"lightcone/functions"
)

func TestStatusAddsUpTheLatestDivision(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }
	all := addUp("job", []Progress{
		{Of: 8, Share: 1, Total: 99, Done: 99, Updated: at(5)}, // of an earlier division
		{Of: 3, Share: 2, Total: 10, Counted: true, Done: 4, Failed: 1, CPU: 3, BytesIn: 5, Started: at(7), Updated: at(9)},
		{Of: 3, Share: 0, Total: 20, Counted: true, Done: 15, Skipped: 5, CPU: 4, BytesOut: 6, Started: at(6), Updated: at(8), Finished: at(8)},
	})
	if all.Of != 3 || all.Reporting != 2 || all.Harvest < 0.66 || all.Harvest > 0.67 || all.Complete != 1 || !all.Counted ||
		all.Total != 30 || all.Done != 19 || all.Skipped != 5 || all.Failed != 1 || all.CPU != 7 || all.BytesIn != 5 || all.BytesOut != 6 ||
		!all.Started.Equal(at(6)) || !all.Updated.Equal(at(9)) || all.Shares[0].Share != 0 || all.Shares[1].Share != 2 {
		t.Errorf("%+v", all)
	}
}

func TestStatusOfNothing(t *testing.T) {
	out := memory(t)
	if _, err := Status(t.Context(), out, "job"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := Status(t.Context(), out, "a b"); err == nil {
		t.Error("an impossible name has a status")
	}
	put(t, out, map[string]string{progressKey("job", 0): "{"})
	if _, err := Status(t.Context(), out, "job"); err == nil || !strings.Contains(err.Error(), "progress-0.json") {
		t.Error(err)
	}
}

func TestConfigsThatCannotBeUsed(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"an input":          func(c *Config) { c.In = nil },
		"0 shares":          func(c *Config) { c.Shares = 0 },
		"share 1 of 1":      func(c *Config) { c.Share = 1 },
		"share -1":          func(c *Config) { c.Share = -1 },
		"0 slots":           func(c *Config) { c.Slots = 0 },
		"-1 objects ahead":  func(c *Config) { c.Ahead = -1 },
		"not be negative":   func(c *Config) { c.MostGivenUp = -1 },
		"job \"\"":          func(c *Config) { c.Job = "" },
		"function \"\"":     func(c *Config) { c.Function = functions.Spec{} },
		"tenant \"\"":       func(c *Config) { c.Tenant = "" },
		"retry policy":      func(c *Config) { c.Retry.Cap = 0 },
		"a logger":          func(c *Config) { c.Logger = (*slog.Logger)(nil) },
		"100001 shares":     func(c *Config) { c.Shares = 100_001 },
		"1025 slots":        func(c *Config) { c.Slots = 1025 },
		"the time between ": func(c *Config) { c.ReportEvery = -1 },
	} {
		config := configForTest(memory(t), memory(t), newFunction())
		change(&config)
		if _, err := Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}
