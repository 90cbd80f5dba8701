package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// measureHop is (c): what the gateway and the supervisor, which are one process
// here, cost per call, beside HAProxy as a plain reverse proxy before the same
// echo function.
func measureHop(ctx context.Context, s settings, r *report) error {
	body := make([]byte, 256<<10)
	t, err := startTree(ctx)
	if err != nil {
		return err
	}
	defer t.stop()
	proxy, err := startProxy(ctx, t.of("echo").Slots)
	if err != nil {
		return err
	}
	defer proxy.stop()
	toTree, err := newRequest(t.api, "/function/echo?bytes=8192", t.key, body)
	if err != nil {
		return err
	}
	defer toTree.close()
	toProxy, err := newRequest(proxy.address, "/?bytes=8192", t.key, body)
	if err != nil {
		return err
	}
	defer toProxy.close()
	r.heading("(c) one hop: CPU per call with echo, 256 KB in and 8 KB out")
	contestants := []struct {
		address string
		pid     int
		message request
		cost    []float64
		rate    []float64
	}{
		{address: t.api, pid: t.pid(), message: toTree},
		{address: proxy.address, pid: proxy.pid(), message: toProxy},
	}
	for range s.rounds {
		for i := range contestants {
			c := &contestants[i]
			closedLoop(ctx, c.address, c.message, r.Cores, s.duration/8, maxCalls) // warm
			before, err := cpuOf(c.pid)
			if err != nil {
				return err
			}
			seen := closedLoop(ctx, c.address, c.message, r.Cores, s.duration/2, maxCalls)
			after, err := cpuOf(c.pid)
			if err = errors.Join(err, seen.check()); err != nil {
				return err
			}
			c.cost = append(c.cost, (after-before).Seconds()*1e6/float64(seen.answered.TotalCount()))
			c.rate = append(c.rate, seen.rate())
		}
	}
	const section = "hop"
	r.add(section, "gateway and supervisor together", "us", "under 250", contestants[0].cost...)
	r.add(section, "HAProxy, one thread, plain reverse proxy", "us", "", contestants[1].cost...)
	r.add(section, "gateway and supervisor : HAProxy", "x", "at most 1.0", ratios(contestants[0].cost, contestants[1].cost)...)
	r.add(section, "echo calls through Lightcone", "/s", "", contestants[0].rate...)
	r.add(section, "echo calls through HAProxy", "/s", "", contestants[1].rate...)
	return nil
}

// proxy is an HAProxy with echo functions behind it.
type proxy struct {
	*child
	address string
	dir     string
	echoes  []*child
}

// startProxy runs as many echo functions as the supervisor does, one call at a
// time each, and HAProxy before them.
func startProxy(ctx context.Context, slots int) (*proxy, error) {
	p := &proxy{}
	var err error
	if p.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "lightcone-bench-"); err != nil {
		return nil, err
	}
	if err := p.start(ctx, slots); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *proxy) start(ctx context.Context, slots int) error {
	var servers strings.Builder
	for i := range slots {
		socket := filepath.Join(p.dir, fmt.Sprint("echo", i))
		echo, err := startChild("bin/lightcone", []string{"LIGHTCONE_SOCKET=" + socket, "GOMAXPROCS=1"}, "function", "echo")
		if err != nil {
			return err
		}
		p.echoes = append(p.echoes, echo)
		if err := echo.await(ctx, func() bool { return answers("unix", socket) }); err != nil {
			return err
		}
		fmt.Fprintf(&servers, "  server echo%d unix@%s maxconn 1\n", i, socket)
	}
	config := filepath.Join(p.dir, "haproxy.cfg")
	text := fmt.Sprintf(`global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout queue 30s
  http-reuse always
frontend front
  bind %s
  default_backend functions
backend functions
%s`, p.address, servers.String())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if p.child, err = startChild("/usr/sbin/haproxy", nil, "-db", "-f", config); err != nil {
		return err
	}
	return p.await(ctx, func() bool { return answers("tcp", p.address) })
}

func answers(network, address string) bool {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (p *proxy) stop() {
	if p.child != nil {
		p.child.stop()
	}
	for _, echo := range p.echoes {
		echo.stop()
	}
	_ = os.RemoveAll(p.dir)
}
