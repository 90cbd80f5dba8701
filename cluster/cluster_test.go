package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestProcessIsToldByItsStart(t *testing.T) {
	me := process{Name: "this", PID: os.Getpid(), Started: startOf(os.Getpid())}
	if !me.alive() {
		t.Errorf("%+v is not alive", me)
	}
	for _, other := range []process{
		{Name: "an earlier one with this number", PID: me.PID, Started: "1"},
		{Name: "never started", PID: me.PID},
		{Name: "gone", PID: 1 << 30, Started: "1"},
	} {
		if other.alive() || other.signal(syscall.Signal(0)) == nil {
			t.Errorf("%s passes for alive", other.Name)
		}
	}
}

func TestSecrets(t *testing.T) {
	one, other := newSecrets(), newSecrets()
	if one == other || one.Gossip == other.Gossip {
		t.Errorf("two clusters have the same secrets")
	}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if !form.MatchString(one.ConsulManagement) {
		t.Errorf("%q is no UUID of version 4", one.ConsulManagement)
	}
}

func TestCleanEnvironment(t *testing.T) {
	got := cleanEnvironment([]string{"PATH=/bin", "CONSUL_HTTP_ADDR=x", "NOMAD_TOKEN=x", "AWS_CA_BUNDLE=x", "HOME=/"})
	if !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) {
		t.Error(got)
	}
}

func TestTopologyFitsTheKernel(t *testing.T) {
	for _, h := range clients() {
		socket := fmt.Sprintf("%s/alloc/%s/scheduler/secrets/api.sock", h.folder(), uuid())
		if len(socket) > 107 {
			t.Errorf("%s: the task API's socket would have %d bytes: %s", h.Name, len(socket), socket)
		}
		if len(h.wired().Cable) > 15 {
			t.Errorf("%s: the interface %s is too long", h.Name, h.wired().Cable)
		}
	}
}

func TestKeysBelongToWhoCalledSudo(t *testing.T) {
	folder := t.TempDir()
	key := filepath.Join(folder, "demo.key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owner := func() uint32 {
		info, err := os.Stat(key)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	me := owner()
	if err := giveToUser(folder, func(string) string { return "" }); err != nil || owner() != me {
		t.Errorf("without sudo, the owner is %d (%v)", owner(), err)
	}
	if err := giveToUser(folder, func(string) string { return "1000" }); err != nil || owner() != 1000 {
		t.Errorf("with sudo, the owner is %d (%v)", owner(), err)
	}
}

func TestMilestones(t *testing.T) {
	var said bytes.Buffer
	m := milestones{to: &said}
	for _, part := range []string{"Plan: 6 to add\nnomad_job.a: Crea", "ting...\nnoise\nnomad_job.a: Creation complete after 3s\nunfinished Creating..."} {
		if _, err := m.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "  nomad_job.a: Creating...\n  nomad_job.a: Creation complete after 3s\n"; said.String() != want {
		t.Errorf("%q", said.String())
	}
}

// TestLoadCountsWhatItSees: a load must not hide a failure, nor try a call twice.
func TestLoadCountsWhatItSees(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) % 4 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"detail":"Too many.","instance":"1"}`)
		case 1:
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("X-Call-Id", fmt.Sprint(calls.Load()))
			w.Header().Set("Server-Timing", "queue;dur=0.000, exec;dur=9.912, cpu;dur=7.125")
		}
	}))
	defer server.Close()
	l := load{url: server.URL, key: "k", body: []byte("x"), rate: 200, patience: 5 * time.Second}
	seen, err := l.during(t.Context(), 0, func() error {
		return waitUntil(t.Context(), 10*time.Second, func() bool { return calls.Load() >= 40 })
	})
	if err != nil {
		t.Fatal(err)
	}
	if int64(seen.sent) != calls.Load() {
		t.Errorf("%d calls were counted, %d came in", seen.sent, calls.Load())
	}
	failed := 0
	for failure, times := range seen.failures {
		failed += times
		if failure != "503 Too many." && failure != "EOF" {
			t.Errorf("unexpected: %q", failure)
		}
	}
	if failed == 0 || seen.answered+failed != seen.sent || seen.yield() > 60 {
		t.Errorf("%+v", seen)
	}
	for id, cpu := range seen.cpu {
		if id == "" || cpu != 7.125 {
			t.Errorf("call %q cost %v ms", id, cpu)
		}
	}
}

func TestReasonHidesAddresses(t *testing.T) {
	err := &url.Error{Op: "Post", URL: "http://127.0.0.1", Err: &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}}
	if got := reason(err); got != "connection reset by peer" {
		t.Errorf("%q", got)
	}
	if got := reason(errors.New("plain")); got != "plain" {
		t.Errorf("%q", got)
	}
}

func TestUnknownCommandsAndDrills(t *testing.T) {
	for _, args := range [][]string{nil, {"bogus"}, {"up", "again"}} {
		if err := act(context.Background(), args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "usage") {
			t.Errorf("%v: %v", args, err)
		}
	}
	names := make(map[string]bool)
	for _, d := range allDrills() {
		if names[d.name] || d.what == "" || len(d.name) > 19 {
			t.Errorf("the drill %q", d.name)
		}
		names[d.name] = true
	}
}

func TestPortsTakenAreNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := free(listener.Addr().String(), "the front door"); err == nil || !strings.Contains(err.Error(), "the front door wants "+listener.Addr().String()) {
		t.Error(err)
	}
}

func TestProportional(t *testing.T) {
	const rollup = "55d6 ---p 00000000 00:00 0 [rollup]\nRss:    20 kB\nPss:                12 kB\nPss_Dirty:  4 kB\n"
	if got := proportional([]byte(rollup)); got != 12<<10 {
		t.Errorf("%d bytes, want %d", got, 12<<10)
	}
	own, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	if got := proportional(own); got < 1<<20 {
		t.Errorf("this process takes %d bytes", got)
	}
}
