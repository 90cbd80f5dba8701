package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lightcone/jobs"
)

// sample is the photograph of the curl line, installed by the Makefile.
const sample = "/usr/share/backgrounds/mate/nature/Garden.jpg"

// up makes the whole region and says how far it is.
func (c *cluster) up(ctx context.Context, say io.Writer) error {
	if err := c.mayStart(ctx); err != nil {
		return err
	}
	for _, folder := range []string{"config", "logs", "release"} {
		if err := os.MkdirAll(filepath.Join(agentsFolder, folder), 0o755); err != nil {
			return err
		}
	}
	shared := []string{c.photographs(), c.store()}
	for _, h := range racks() {
		shared = append(shared, c.usage(h))
	}
	for _, folder := range shared {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(folder, 0o777|os.ModeSticky); err != nil { // jobs run as nobody
			return err
		}
	}
	var published, s3Server release
	var provisioner *terraform
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"three racks, joined by a bridge", func() error { return network().Plug(ctx) }},
		{"Consul's server", func() error { return c.startConsul(edge()) }},
		{"Consul's policies and the agents' tokens", func() error {
			if err := c.admitAgents(ctx); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(c.folder, "consul.token"), []byte(c.secrets.ConsulManagement+"\n"), 0o600)
		}},
		{"Consul in each rack", func() error { return each(racks(), c.startConsul) }},
		{"the release, for the racks to fetch", func() error {
			var err error
			if published, err = publish(filepath.Join(c.project, "bin", "lightcone.tar.gz")); err != nil {
				return err
			}
			if s3Server, err = publish(filepath.Join(c.project, "bin", "versitygw.tar.gz")); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if err := c.start(releases, edge(), self, "serve-releases"); err != nil {
				return err
			}
			return c.awaitAnswer(ctx, releases, "http://"+releaseAddress+"/healthz")
		}},
		{"Nomad's server", func() error {
			if err := c.startNomadServer(); err != nil {
				return err
			}
			return c.awaitAnswer(ctx, nomadServer, nomadURL+"/v1/status/leader")
		}},
		{"who may do what: jobs and Consul", func() error { return c.admitWorkloads(ctx) }},
		{"Nomad in each rack and at the edge", func() error {
			if err := each(clients(), c.startNomad); err != nil {
				return err
			}
			return c.awaitNodes(ctx)
		}},
		{"the keys", func() error { return c.putKeys(ctx) }},
		{"Terraform", func() error {
			var err error
			provisioner, err = c.prepare(ctx, say)
			return err
		}},
		{"terraform apply: workers, gateways, front door, scheduler, Redis, queue, identity, store, billing", func() error {
			inputs, err := c.variables(published, s3Server)
			if err != nil {
				return err
			}
			return provisioner.apply(ctx, &milestones{to: say}, inputs)
		}},
		{"the tenant demo and its key", func() error { return c.admitDemo(ctx) }},
		{"a call through the front door", func() error { return c.awaitCall(ctx) }},
	} {
		began := time.Now()
		fmt.Fprintf(say, "%s\n", step.name)
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(say, "  done in %.1f s\n", time.Since(began).Seconds())
	}
	c.greet(say)
	return nil
}

// milestones passes on the lines of Terraform that tell how far it is.
type milestones struct {
	to   io.Writer
	rest []byte
}

// Write keeps what is not yet a whole line.
func (m *milestones) Write(p []byte) (int, error) {
	m.rest = append(m.rest, p...)
	for {
		line, rest, whole := bytes.Cut(m.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		m.rest = rest
		for _, word := range []string{"Creating...", "Still creating", "Creation complete", "Modifying...", "Still modifying", "Modifications complete"} {
			if bytes.Contains(line, []byte(word)) {
				fmt.Fprintf(m.to, "  %s\n", line)
				break
			}
		}
	}
}

func each(hosts []host, do func(host) error) error {
	for _, h := range hosts {
		if err := do(h); err != nil {
			return err
		}
	}
	return nil
}

// mayStart says what stands in the way of a cluster.
func (c *cluster) mayStart(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and Nomad's exec driver need root: run `sudo make cluster`")
	}
	if _, err := os.Stat(processFile); err == nil {
		return errors.New("a cluster is there already, or what a failed one left: `make cluster-down` removes it")
	}
	for _, program := range []string{"ip", "nsenter", "haproxy", "redis-server", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing: `make cluster` installs it on Debian (iproute2, util-linux, haproxy, redis-server)", program)
		}
	}
	if err := command(ctx, "ip", "link", "show", bridge); err == nil {
		return fmt.Errorf("there is a network interface %s already: `make cluster-down` removes it", bridge)
	}
	for _, port := range []struct{ address, what string }{
		{"127.0.0.1:8080", "the front door"}, {"127.0.0.1:8404", "the front door's operators"},
		{"127.0.0.1:8500", "Consul"}, {"127.0.0.1:8600", "Consul's DNS"}, {"127.0.0.1:4646", "Nomad"}, {"127.0.0.1:4656", "Nomad's client"},
	} {
		if err := free(port.address, port.what); err != nil {
			return err
		}
	}
	return nil
}

// free is an error if what cannot have the address.
func free(address, what string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s wants %s: %w; stop what has it (`ss -ltnp` tells)", what, address, err)
	}
	return listener.Close()
}

// awaitNodes waits until Nomad may place jobs on every host.
func (c *cluster) awaitNodes(ctx context.Context) error {
	nomad, err := jobs.Connect(jobs.Config{Address: nomadURL})
	if err != nil {
		return err
	}
	defer nomad.Close()
	ready := 0
	err = waitUntil(ctx, time.Minute, func() bool {
		nodes, err := nomad.Nodes(ctx)
		if err != nil {
			return false
		}
		ready = 0
		for _, node := range nodes {
			if node.Status == "ready" {
				ready++
			}
		}
		return ready == len(clients())
	})
	if err != nil {
		return fmt.Errorf("%d of %d hosts are ready: %w; their logs are in %s", ready, len(clients()), err, filepath.Dir(logOf("")))
	}
	return nil
}

// putKeys makes the keys, which stay when the cluster goes, and gives them to Nomad.
func (c *cluster) putKeys(ctx context.Context) error {
	lightcone := filepath.Join(c.project, "bin", "lightcone")
	if err := command(ctx, lightcone, "keys", "--out", c.folder); err != nil {
		return err
	}
	variable, err := c.regionKeys()
	if err != nil {
		return err
	}
	if err := giveToUser(c.folder, os.Getenv); err != nil {
		return err
	}
	return command(ctx, c.nomadProgram, "var", "put", "-address="+nomadURL, "-force", "-in=json", "@"+variable)
}

// giveToUser makes the folder and the files in it belong to who called sudo: they
// call with the keys.
func giveToUser(folder string, environment func(string) string) error {
	user, err := strconv.Atoi(environment("SUDO_UID"))
	if err != nil {
		return nil // nobody did
	}
	group, err := strconv.Atoi(environment("SUDO_GID"))
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	paths := []string{folder}
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			paths = append(paths, filepath.Join(folder, entry.Name()))
		}
	}
	for _, path := range paths {
		if err := os.Lchown(path, user, group); err != nil {
			return err
		}
	}
	return nil
}

// awaitCall waits until a photograph comes back resized.
func (c *cluster) awaitCall(ctx context.Context) error {
	var failed error
	err := waitUntil(ctx, time.Minute, func() bool {
		failed = command(ctx, filepath.Join(c.project, "bin", "lightcone"), "call", "resize", "--api", "http://127.0.0.1:8080",
			"--key-file", c.demoKey(), "--param", "width=300", "--in", sample, "--out", os.DevNull)
		return failed == nil
	})
	if err != nil {
		return failed
	}
	return nil
}

// greet says where everything is. The last line works as it is, from the project's root.
func (c *cluster) greet(say io.Writer) {
	folder, err := filepath.Rel(c.project, c.folder)
	if err != nil || strings.HasPrefix(folder, "..") {
		folder = c.folder
	}
	fmt.Fprintf(say, `
Lightcone is up: three racks, a load balancer, gateways, workers, schedulers, Redis, the queue, the management plane, an S3 store.
  front door  http://127.0.0.1:8080
  Consul      http://127.0.0.1:8500/ui   (reads without a token; all else with %[1]s/consul.token)
  Nomad       http://127.0.0.1:4646/ui
  bills       %[1]s/store/buckets/usage: usage records, each hour's bill ten minutes after it is over, and invoices
  statistics  http://127.0.0.1:8404      (HAProxy; metrics below /metrics/SERVICE, password in %[1]s/operator.key)
Tenants and keys are made on that port, too: export LIGHTCONE_MANAGE_URL=http://127.0.0.1:8404 LIGHTCONE_OPERATOR_KEY_FILE=%[1]s/operator.key
for bin/lightcone tenant, key and audit. bin/nomad and bin/consul are their commands. make cluster-down stops and removes it all. Try it:
  curl -sS -f -H "Authorization: Bearer $(cat %[1]s/demo.key)" --data-binary @%[2]s -o small.jpg 'http://127.0.0.1:8080/function/resize?width=300'
`, folder, sample)
}
