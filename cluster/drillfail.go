package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"lightcone/consul"
	"lightcone/internal/retry"
	"lightcone/jobs"
)

// nothing is the reference for all other drills.
func (d *drills) nothing(context.Context) error { return nil }

// running are the job's running allocations.
func (d *drills) running(ctx context.Context, job string) ([]jobs.Allocation, error) {
	all, err := d.nomad.Allocations(ctx, job)
	if err != nil {
		return nil, err
	}
	var running []jobs.Allocation
	for _, allocation := range all {
		if allocation.Status == "running" && allocation.DesiredStatus == "run" {
			running = append(running, allocation)
		}
	}
	if len(running) == 0 {
		return nil, fmt.Errorf("job %s has no running allocation", job)
	}
	return running, nil
}

func (d *drills) killGateway(ctx context.Context) error {
	gateways, err := d.running(ctx, "gateway")
	if err != nil {
		return err
	}
	killed := gateways[0].ID
	before, err := d.started(ctx, killed)
	if err != nil {
		return err
	}
	if err := d.nomad.Signal(ctx, killed, "gateway", "SIGKILL"); err != nil {
		return err
	}
	began := time.Now()
	err = waitUntil(ctx, 30*time.Second, func() bool {
		now, err := d.started(ctx, killed)
		return err == nil && now.After(before)
	})
	if err != nil {
		return fmt.Errorf("the gateway was not started again: %w", err)
	}
	if err := d.awaitInstances(ctx, "gateway", 3, 30*time.Second); err != nil {
		return err
	}
	d.note("started again and well after %.0f s", time.Since(began).Seconds())
	return retry.Pause(ctx, 10*time.Second)
}

// started is when a gateway's task was started last.
func (d *drills) started(ctx context.Context, allocation string) (time.Time, error) {
	all, err := d.nomad.Allocations(ctx, "gateway")
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, a := range all {
		if a.ID != allocation {
			continue
		}
		for _, event := range a.Events {
			if event.Type == "Started" && event.Time.After(last) {
				last = event.Time
			}
		}
	}
	return last, nil
}

// awaitInstances waits until Consul lists exactly count well instances.
func (d *drills) awaitInstances(ctx context.Context, service string, count int, bound time.Duration) error {
	seen := 0
	err := waitUntil(ctx, bound, func() bool {
		instances, err := d.consul.Instances(ctx, service)
		seen = len(instances)
		return err == nil && seen == count
	})
	if err != nil {
		return fmt.Errorf("%d instances of %s are well, waited for %d: %w", seen, service, count, err)
	}
	return nil
}

// leaderKey is where the schedulers elect their leader.
const leaderKey = "lightcone/scheduler/leader"

// term is one leader's time in office, as its entry in Consul tells it.
type term struct {
	name  string // the allocation's id
	since string // tells it from an earlier term of the same candidate
}

// leader is who holds the schedulers' office.
func (d *drills) leader(ctx context.Context) (term, error) {
	entry, found, err := d.consul.Get(ctx, leaderKey)
	if err != nil {
		return term{}, err
	}
	var who struct{ Name, Since string }
	if !found || json.Unmarshal(entry.Value, &who) != nil || who.Name == "" {
		return term{}, errors.New("nobody leads")
	}
	return term{who.Name, who.Since}, nil
}

// electionBound is within what another leads: a session lasts 10 s, Consul takes up
// to twice as long to end it, and then keeps the office empty for 10 s; the rest is
// for the candidates' pauses and the first decision.
const electionBound = 3*10*time.Second + 15*time.Second

func (d *drills) killLeader(ctx context.Context) error {
	first, err := d.leader(ctx)
	if err != nil {
		return err
	}
	before, err := d.deciding(ctx)
	if err != nil {
		return err
	}
	if err := d.nomad.Signal(ctx, first.name, "scheduler", "SIGKILL"); err != nil {
		return err
	}
	began := time.Now()
	err = waitUntil(ctx, electionBound, func() bool {
		next, err := d.leader(ctx)
		if err != nil || next == first {
			return false
		}
		epoch, err := d.deciding(ctx)
		return err == nil && epoch > before
	})
	if err != nil {
		return fmt.Errorf("no new leader decides: %w", err)
	}
	d.note("a new leader decided after %.1f s", time.Since(began).Seconds())
	return retry.Pause(ctx, 5*time.Second)
}

// deciding is the epoch of the scheduler that says it leads and has looked at a
// fleet in its term.
func (d *drills) deciding(ctx context.Context) (uint64, error) {
	instances, err := d.consul.Instances(ctx, "scheduler")
	if err != nil {
		return 0, err
	}
	for _, instance := range instances {
		var status struct {
			Epoch  uint64
			Fleets []json.RawMessage
		}
		if d.ask(ctx, "http://"+instance.Address+"/status", &status) == nil && status.Epoch > 0 && len(status.Fleets) > 0 {
			return status.Epoch, nil
		}
	}
	return 0, errors.New("no scheduler says that it leads")
}

// ask reads a page of a management listener.
func (d *drills) ask(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+d.operator)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// busiestRack is the rack whose loss would hurt most: with most of the gateways
// and workers.
func (d *drills) busiestRack(ctx context.Context) (host, jobs.Node, error) {
	on := make(map[string]int) // by host
	for _, job := range []string{"gateway", "worker-resize"} {
		running, err := d.running(ctx, job)
		if err != nil {
			return host{}, jobs.Node{}, err
		}
		for _, allocation := range running {
			on[allocation.Node]++
		}
	}
	busiest := racks()[0]
	for _, h := range racks() {
		if on[h.Name] > on[busiest.Name] {
			busiest = h
		}
	}
	d.note("rack %s has %d of the gateways and workers", busiest.Rack, on[busiest.Name])
	node, err := d.node(ctx, busiest)
	return busiest, node, err
}

// node is a host as Nomad sees it.
func (d *drills) node(ctx context.Context, h host) (jobs.Node, error) {
	nodes, err := d.nomad.Nodes(ctx)
	if err != nil {
		return jobs.Node{}, err
	}
	for _, node := range nodes {
		if node.Name == h.Name {
			return node, nil
		}
	}
	return jobs.Node{}, fmt.Errorf("there is no host %s in Nomad", h.Name)
}

func (d *drills) drainRack(ctx context.Context) error {
	h, node, err := d.busiestRack(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.nomad.DrainNode(ctx, node.ID, true, 2*time.Minute); err != nil {
		return err
	}
	err = waitUntil(ctx, 2*time.Minute, func() bool { return d.empty(ctx, h) })
	d.note("empty after %.0f s", time.Since(began).Seconds())
	if enabled := d.nomad.DrainNode(ctx, node.ID, false, 0); err == nil {
		err = enabled
	}
	return err
}

// empty says whether nothing of the region runs on the host.
func (d *drills) empty(ctx context.Context, h host) bool {
	for _, job := range []string{"gateway", "worker-resize", "scheduler", "identity", "redis"} {
		all, err := d.nomad.Allocations(ctx, job)
		if err != nil {
			return false
		}
		for _, allocation := range all {
			if allocation.Node == h.Name && (allocation.Status == "running" || allocation.Status == "pending") {
				return false
			}
		}
	}
	return true
}

func (d *drills) cutRack(ctx context.Context) error {
	h, _, err := d.busiestRack(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.wired().Cut(ctx); err != nil {
		return err
	}
	gone := waitUntil(ctx, time.Minute, func() bool {
		node, err := d.node(ctx, h)
		return err == nil && node.Status != "ready"
	})
	d.note("Nomad missed the rack after %.0f s", time.Since(began).Seconds())
	if gone == nil {
		gone = waitUntil(ctx, time.Minute, func() bool { return d.wholeWithout(ctx, h) })
		d.note("all gateways and workers again, on two racks, after %.0f s", time.Since(began).Seconds())
	}
	if gone == nil {
		gone = retry.Pause(ctx, away-time.Since(began))
	}
	if err := h.wired().Heal(ctx); err != nil {
		return err
	}
	if gone != nil {
		return gone
	}
	began = time.Now()
	if err := waitUntil(ctx, time.Minute, func() bool {
		node, err := d.node(ctx, h)
		return err == nil && node.Status == "ready"
	}); err != nil {
		return fmt.Errorf("the rack did not come back: %w", err)
	}
	d.note("the rack was back %.0f s after it was plugged in", time.Since(began).Seconds())
	return nil
}

// wholeWithout says whether as many gateways and workers as there should be are
// well on the other hosts.
func (d *drills) wholeWithout(ctx context.Context, h host) bool {
	for _, service := range []string{"gateway", "worker-resize"} {
		instances, err := d.consul.Instances(ctx, service)
		if err != nil {
			return false
		}
		instances = slices.DeleteFunc(instances, func(i consul.Instance) bool { return i.Node == h.Name })
		if len(instances) < 3 {
			return false
		}
	}
	return true
}

// away is for how long a server is stopped, or a rack cut off.
const away = time.Minute

func (d *drills) stopConsul(ctx context.Context) error {
	if err := d.without(ctx, consulOn(edge())); err != nil {
		return err
	}
	return waitUntil(ctx, time.Minute, func() bool { _, err := d.leader(ctx); return err == nil })
}

func (d *drills) stopNomad(ctx context.Context) error {
	if err := d.without(ctx, nomadServer); err != nil {
		return err
	}
	return d.awaitNodes(ctx)
}

// without kills the named process, and starts it again after a while. Its
// configuration is still there, so its secrets need not be known.
func (d *drills) without(ctx context.Context, name string) error {
	p, err := d.process(name)
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	paused := retry.Pause(ctx, away)
	program, flag := d.consulProgram, "-config-file="
	if strings.HasPrefix(name, "nomad") {
		program, flag = d.nomadProgram, "-config="
	}
	if err := d.start(name, edge(), program, "agent", flag+configOf(name)); err != nil {
		return err
	}
	return paused
}
