package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lightcone/internal/hosts"
	"lightcone/queue"
)

// network is the three hosts of the nodes.
var network = hosts.Network{Bridge: "lcqueue0", Address: "10.88.78.1", Bits: 24, Hosts: []hosts.Host{
	{Name: "lcqueue-a", Address: "10.88.78.11", Cable: "lcqueue-a"},
	{Name: "lcqueue-b", Address: "10.88.78.12", Cable: "lcqueue-b"},
	{Name: "lcqueue-c", Address: "10.88.78.13", Cable: "lcqueue-c"},
}}

const (
	clientPort = 4222
	routePort  = 6222

	// startBound is how long three nodes, or one that comes back, may take to be ready.
	startBound = 2 * time.Minute
)

func serverOf(i int) string { return fmt.Sprintf("%s:%d", network.Hosts[i].Address, clientPort) }

func servers() []string {
	var all []string
	for i := range network.Hosts {
		all = append(all, serverOf(i))
	}
	return all
}

// region is the queue's three nodes, each on a host of its own, and those who use it.
type region struct {
	dir     string // of this drill
	nodes   [3]*process
	clients []*process
	workers []*process
	queue   *queue.Client // the drill's own
	notes   []string
}

// note adds a fact to the drill's lines.
func (r *region) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// begin starts the nodes and connects to them.
func begin(ctx context.Context, dir string) (*region, error) {
	r := &region{dir: dir}
	for i := range r.nodes {
		if err := r.startNode(i); err != nil {
			return r, err
		}
	}
	var err error
	if r.queue, err = connect(filepath.Dir(dir), "drill", servers()); err != nil {
		return r, err
	}
	return r, r.awaitReady(ctx)
}

// end ends all processes, those that are frozen or dead included.
func (r *region) end() error {
	var failed []error
	if r.queue != nil {
		r.queue.Close()
	}
	for _, all := range [][]*process{r.clients, r.workers} {
		for _, p := range all {
			p.kill()
		}
	}
	for _, p := range r.nodes {
		if p != nil {
			failed = append(failed, p.end())
		}
	}
	return errors.Join(failed...)
}

func (r *region) log(name string) string     { return filepath.Join(r.dir, name+".log") }
func (r *region) journal(name string) string { return filepath.Join(r.dir, name+".json") }

// nodeDir is where a node keeps what it has.
func (r *region) nodeDir(i int) string { return filepath.Join(r.dir, "node-"+strconv.Itoa(i)) }

func (r *region) startNode(i int) error {
	name := "node-" + strconv.Itoa(i)
	p, err := start(&network.Hosts[i], name, r.log(name), "node", "-index", strconv.Itoa(i), "-keep", r.nodeDir(i), "-drills", filepath.Dir(r.dir))
	if err != nil {
		return err
	}
	r.nodes[i] = p
	_, err = p.ask("") // it says that it listens
	return err
}

// startClient starts a client on a node's host, or outside for -1.
func (r *region) startClient(at int) error {
	name := "client-" + strconv.Itoa(len(r.clients))
	on, first := (*hosts.Host)(nil), servers()
	if at >= 0 {
		on, first = &network.Hosts[at], []string{serverOf(at)}
	}
	p, err := start(on, name, r.log(name), "client", "-number", strconv.Itoa(len(r.clients)), "-servers", strings.Join(first, ","),
		"-journal", r.journal(name), "-drills", filepath.Dir(r.dir))
	if err == nil {
		r.clients = append(r.clients, p)
	}
	return err
}

// startWorker starts a worker outside of the hosts, so that it stays when one is cut off.
func (r *region) startWorker(args ...string) error {
	name := "worker-" + strconv.Itoa(len(r.workers))
	p, err := start(nil, name, r.log(name), append([]string{"worker", "-servers", strings.Join(servers(), ","),
		"-journal", r.journal(name), "-drills", filepath.Dir(r.dir)}, args...)...)
	if err == nil {
		r.workers = append(r.workers, p)
	}
	return err
}

// awaitReady waits until the queue can be used and all nodes that run have what the
// others have.
func (r *region) awaitReady(ctx context.Context) error {
	var last error
	err := waitUntil(ctx, startBound, func() bool {
		if last = r.queue.Ready(); last != nil {
			return false
		}
		for _, p := range r.nodes {
			if p == nil {
				continue
			}
			answer, err := p.ask("ready?")
			if err != nil || answer != "yes" {
				last = fmt.Errorf("%s: %s (%v)", p.name, answer, err)
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the queue is not ready: %w", errors.Join(last, err))
	}
	return nil
}

// leader is the node that leads the stream of the calls that wait.
func (r *region) leader(ctx context.Context) (int, error) {
	found := -1
	err := waitUntil(ctx, startBound, func() bool {
		for i, p := range r.nodes {
			if p == nil {
				continue
			}
			if answer, err := p.ask("leads?"); err == nil && answer == "yes" {
				found = i
				return true
			}
		}
		return false
	})
	if err != nil {
		return 0, fmt.Errorf("no node leads: %w", err)
	}
	return found, nil
}

// killNode kills a node with SIGKILL.
func (r *region) killNode(i int) {
	r.nodes[i].kill()
	r.nodes[i] = nil
}

// waitUntil polls done until it holds, for at most bound.
func waitUntil(ctx context.Context, bound time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// makeDir makes an empty folder for one drill.
func makeDir(above, name string) (string, error) {
	dir := filepath.Join(above, name)
	return dir, os.Mkdir(dir, 0o700)
}
