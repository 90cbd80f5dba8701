package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lightcone/consul"
	"lightcone/internal/retry"
	"lightcone/jobs"
)

// drill is one thing that goes wrong, on purpose, while calls come in.
type drill struct {
	name, what string
	least      float64 // the yield, in percent
	do         func(*drills, context.Context) error
	judge      func(*drills, context.Context, *tally) error // what came of the calls, when all have ended; nil = nothing
}

const (
	leastYield = 99.9             // percent of the calls, while something goes wrong
	drillRate  = 40               // calls per second: a third of what two cores do
	lead       = 3 * time.Second  // of load before and after
	leastLoad  = 30 * time.Second // in between: a share of fewer calls says little
	patience   = 15 * time.Second // of the load's client
)

// allDrills in their order: each leaves the region as it found it.
func allDrills() []drill {
	return []drill{
		{"steady", "nothing goes wrong", leastYield, (*drills).nothing, nil},
		{"gateway-killed", "a gateway is killed; Nomad starts it again", leastYield, (*drills).killGateway, nil},
		{"leader-killed", "the leading scheduler is killed; another leads", leastYield, (*drills).killLeader, nil},
		{"rolling-update", "every worker is replaced, one after the other; no call may fail", 100, (*drills).updateWorkers, nil},
		{"bad-build", "a build that does not start is deployed; Nomad goes back", leastYield, (*drills).deployBadBuild, nil},
		{"bad-config", "a configuration that is valid and wrong is deployed; Nomad goes back", leastYield, (*drills).deployBadConfig, nil},
		{"missing-artifact", "a release that is not there is deployed; Nomad goes back", leastYield, (*drills).deployNothing, nil},
		{"rack-drained", "a rack is drained for maintenance and comes back", leastYield, (*drills).drainRack, nil},
		{"rack-cut", "a rack's cable is pulled, and plugged in again after a minute", leastYield, (*drills).cutRack, nil},
		{"rack-cut-queued", "the same, while calls are queued: what was accepted ends with a result", leastYield, (*drills).cutRackQueued, nil},
		{"queue-killed", "each node of the queue is killed in its turn, while calls are queued", leastYield, (*drills).killQueueNodes, nil},
		{"usage-kept", "the S3 store stands still, a gateway is killed and a rack's cable pulled; what was answered is stored and billed, once", leastYield, (*drills).loseUsage, (*drills).judgeUsage},
		{"consul-away", "Consul's server is away for a minute", leastYield, (*drills).stopConsul, nil},
		{"nomad-away", "Nomad's server is away for a minute", leastYield, (*drills).stopNomad, nil},
		{"load-step", "calls for echo come from nothing to a multiple, and go; its workers follow", leastYield, (*drills).stepLoad, nil},
		{"bulk", "a folder of photographs is resized by a batch", leastYield, (*drills).resizeFolder, nil},
		// After Consul stood still, no scheduler leads for half a minute: nothing that needs one comes behind these.
		{"redis-master-killed", "the Redis master is killed, and a key revoked meanwhile", leastYield, (*drills).killRedisMaster, nil},
		{"redis-away", "all of Redis stands still for 20 s, and a key is revoked meanwhile", leastYield, (*drills).stopRedis, nil},
		{"identity-away", "all of Redis stands still, and Consul's server, too: who is known is still known", leastYield, (*drills).stopIdentity, nil},
	}
}

// drills is what drills work with.
type drills struct {
	*cluster
	nomad     *jobs.Client
	consul    *consul.Client
	provision *terraform
	key       string   // demo's
	operator  string   // the operator's key
	notes     []string // of the drill that runs, for the table
}

// note adds a figure or a fact to the drill's line in the table.
func (d *drills) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// result is one drill's line.
type result struct {
	drill
	*tally
	err   error
	notes []string
}

// drill runs the named drills, or all, prints a table, and fails if one of them did.
func (c *cluster) drill(ctx context.Context, names []string, say io.Writer) error {
	d, err := c.prepareDrills(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	for _, name := range names {
		if !slices.ContainsFunc(allDrills(), func(one drill) bool { return one.name == name }) {
			return fmt.Errorf("there is no drill %q", name)
		}
	}
	var failed []error
	var results []result
	for _, one := range allDrills() {
		if len(names) > 0 && !slices.Contains(names, one.name) {
			continue
		}
		fmt.Fprintf(say, "%-19s %s\n", one.name, one.what)
		r := d.one(ctx, one)
		results = append(results, r)
		if r.err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", one.name, r.err))
		}
		r.print(say)
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintf(say, "\n%d calls a second with a photograph of 265 KB, none of them tried twice\n", drillRate)
	fmt.Fprintf(say, "%-19s %7s %7s %9s %8s %8s %8s\n", "drill", "calls", "failed", "yield %", "p50 ms", "p99 ms", "max ms")
	for _, r := range results {
		r.row(say)
	}
	taken, processes := memory()
	fmt.Fprintf(say, "memory: %.1f GiB in %d processes\n", float64(taken)/(1<<30), processes)
	if taken > memoryMost {
		failed = append(failed, fmt.Errorf("the cluster takes %d MiB of memory, more than %d", taken>>20, memoryMost>>20))
	}
	return errors.Join(failed...)
}

func (c *cluster) prepareDrills(ctx context.Context) (*drills, error) {
	if err := c.load(); err != nil {
		return nil, err
	}
	if len(c.processes) == 0 {
		return nil, errors.New("there is no cluster to drill: `make cluster` makes one")
	}
	token, err := os.ReadFile(filepath.Join(c.folder, "consul.token"))
	if err != nil {
		return nil, err
	}
	c.secrets.ConsulManagement = strings.TrimSpace(string(token))
	key, err := os.ReadFile(c.demoKey())
	if err != nil {
		return nil, err
	}
	operator, err := os.ReadFile(filepath.Join(c.folder, "operator.key"))
	if err != nil {
		return nil, err
	}
	d := &drills{cluster: c, key: strings.TrimSpace(string(key)), operator: strings.TrimSpace(string(operator))}
	if d.nomad, err = jobs.Connect(jobs.Config{Address: nomadURL}); err != nil {
		return nil, err
	}
	if d.provision, err = c.prepare(ctx, io.Discard); err != nil {
		return nil, err
	}
	d.consul, err = c.open()
	return d, err
}

func (d *drills) close() {
	d.consul.Close()
	d.nomad.Close()
}

// drillBound is how long one drill may take.
const drillBound = 10 * time.Minute

func (d *drills) one(ctx context.Context, one drill) result {
	ctx, cancel := context.WithTimeout(ctx, drillBound)
	defer cancel()
	d.notes = nil
	body, err := os.ReadFile(sample)
	if err != nil {
		return result{drill: one, err: err}
	}
	calls := load{url: frontDoorURL + "/function/resize?width=300", key: d.key, body: body, rate: drillRate, patience: patience}
	seen, err := calls.during(ctx, lead, func() error {
		began := time.Now()
		if err := one.do(d, ctx); err != nil {
			return err
		}
		return retry.Pause(ctx, leastLoad-time.Since(began))
	})
	if err == nil && one.judge != nil {
		err = one.judge(d, ctx, seen)
	}
	if settled := d.settled(ctx); err == nil {
		err = settled
	}
	if err == nil && seen.yield() < one.least {
		err = fmt.Errorf("the yield was %.3f %%, less than %.1f %%: %v", seen.yield(), one.least, seen.failures)
	}
	return result{drill: one, tally: seen, err: err, notes: d.notes}
}

const frontDoorURL = "http://127.0.0.1:8080"

// deployed are the jobs that are deployed by canaries, and their groups.
var deployed = map[string]string{"gateway": "gateway", "worker-resize": "worker", "scheduler": "scheduler", "identity": "identity", "queue": "queue"}

// whole are the least well instances of each service when nothing is wrong.
var whole = map[string]int{"gateway": 3, "worker-resize": 3, "scheduler": 3, "front-door": 1, "identity": 2, "redis": 3, "redis-sentinel": 3, "queue": 3, "store": 1}

// settled waits until the region is whole again: no deployment, every instance well.
func (d *drills) settled(ctx context.Context) error {
	var missing string
	err := waitUntil(ctx, 90*time.Second, func() bool {
		for service, least := range whole {
			instances, err := d.consul.Instances(ctx, service)
			if err != nil || len(instances) < least {
				missing = fmt.Sprintf("%d of %d instances of %s are well (%v)", len(instances), least, service, err)
				return false
			}
		}
		for job, group := range deployed {
			count, err := d.nomad.Count(ctx, job, group)
			if err != nil || count.Deploying {
				missing = fmt.Sprintf("job %s is being deployed (%v)", job, err)
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the region is not whole again: %s: %w", missing, err)
	}
	return nil
}

func (r result) print(say io.Writer) {
	for _, note := range r.notes {
		fmt.Fprintf(say, "%19s   %s\n", "", note)
	}
	if r.tally != nil {
		for failure, times := range r.failures {
			fmt.Fprintf(say, "%19s   %d calls: %s\n", "", times, failure)
		}
	}
	if r.err != nil {
		fmt.Fprintf(say, "%19s   FAILED: %v\n", "", r.err)
	}
}

func (r result) row(say io.Writer) {
	if r.tally == nil {
		fmt.Fprintf(say, "%-19s %v\n", r.name, r.err)
		return
	}
	fmt.Fprintf(say, "%-19s %7d %7d %9.3f %8.1f %8.1f %8.1f\n", r.name, r.sent, r.sent-r.answered, r.yield(),
		r.milliseconds(50), r.milliseconds(99), r.milliseconds(100))
}

// reason is what an error of the client comes down to, without addresses, so that
// equal ones are counted together.
func reason(err error) string {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if i := strings.LastIndex(err.Error(), ": "); i >= 0 {
		return err.Error()[i+2:]
	}
	return err.Error()
}
