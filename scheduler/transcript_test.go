package scheduler

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"lightcone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fleets(p Policy, load FleetLoad) map[lightcone.FunctionName]FleetLoad {
	return map[lightcone.FunctionName]FleetLoad{p.Function: load}
}

// TestTranscripts plays the stories in testdata: a fleet under changing
// conditions, and each change of decision with the scheduler's own words.
func TestTranscripts(t *testing.T) {
	stories, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(stories) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range stories {
		var w *plant
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "fleet":
				w = fleetOf(t, d)
				return ""
			case "run":
				return w.run(duration(t, d, "for", time.Second), conditionsOf(t, d))
			case "new-leader":
				w.state.History, w.state.Memory, w.last = nil, nil, ""
				return ""
			case "operator": // sets what only people set
				w.policy.Floor, w.policy.Ceiling = number(t, d, "floor", w.policy.Floor), number(t, d, "ceiling", w.policy.Ceiling)
				w.state.Policies = []Policy{w.policy}
				w.resize(number(t, d, "count", w.count))
				return ""
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
				return ""
			}
		})
	}
}

func fleetOf(t *testing.T, d *datadriven.TestData) *plant {
	p := DefaultPolicy("resize", "worker-resize", "workers")
	p.Floor, p.Ceiling = number(t, d, "floor", p.Floor), number(t, d, "ceiling", p.Ceiling)
	p.ZeroAfter = duration(t, d, "zero-after", p.ZeroAfter)
	p.BacklogAge = duration(t, d, "backlog-age", p.BacklogAge)
	p.UpCoolDown, p.DownCoolDown = duration(t, d, "up-cool-down", p.UpCoolDown), duration(t, d, "down-cool-down", p.DownCoolDown)
	if err := p.Validate(); err != nil {
		d.Fatalf(t, "%v", err)
	}
	w := newPlant(p, number(t, d, "count", 2))
	w.slots = number(t, d, "slots", w.slots)
	w.boot = duration(t, d, "boot", w.boot)
	w.hasQueue, w.reserve = d.HasArg("reserve"), number(t, d, "reserve", 0)
	return w
}

func conditionsOf(t *testing.T, d *datadriven.TestData) conditions {
	return conditions{
		demand: number(t, d, "demand", 0), visible: number(t, d, "visible", 1000),
		away: number(t, d, "away", 0), lost: number(t, d, "lost", 0), gateways: number(t, d, "gateways", 2),
		queued: number(t, d, "queued", 0), nodes: number(t, d, "queue-nodes", 3), stuck: number(t, d, "stuck", 0),
		blind: d.HasArg("blind"), nomadAway: d.HasArg("nomad-away"), deploying: d.HasArg("deploying"),
	}
}

func number(t *testing.T, d *datadriven.TestData, key string, otherwise int) int {
	d.MaybeScanArgs(t, key, &otherwise)
	return otherwise
}

func duration(t *testing.T, d *datadriven.TestData, key string, otherwise time.Duration) time.Duration {
	var text string
	if !d.MaybeScanArgs(t, key, &text) {
		return otherwise
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return value
}
