package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/identity/management"
	"lightcone/internal/testbed"
)

// region is a real Consul and the keys of a region; gateways and workers are
// processes that tests start in it.
type region struct {
	t      *testing.T
	keys   string // folder
	consul *testbed.Consul
}

func newRegion(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, keys: t.TempDir(), consul: testbed.StartConsul(t, testbed.ConsulConfig{})}
	if err := makeKeys(r.keys); err != nil {
		t.Fatal(err)
	}
	r.admitDemo()
	return r
}

// admitDemo makes demo.key, and a tenant whose it is.
func (r *region) admitDemo() {
	r.t.Helper()
	key, err := keyFile(r.key("demo.key"))
	if err != nil {
		r.t.Fatal(err)
	}
	catalogue, err := consul.Connect(consul.Config{Address: r.consul.Address, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	defer catalogue.Close()
	manager, err := management.New(management.Config{Store: consul.NewDocuments(catalogue, identityPrefix, false)})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := admitDemo(r.t.Context(), manager, key, "the test"); err != nil {
		r.t.Fatal(err)
	}
}

// key is the path of a file among the region's keys.
func (r *region) key(name string) string { return filepath.Join(r.keys, name) }

// catalogue tells Consul's servers what a Nomad client's agent would have told
// them. It is about a node that has no agent, because an agent corrects what it has
// not been told itself, and tells what it has been told up to half a minute later.
func (r *region) catalogue(change string, body map[string]any) {
	r.t.Helper()
	body["Node"], body["Address"] = "machine", "127.0.0.1"
	text, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut, "http://"+r.consul.Address+"/v1/catalog/"+change, bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	if said, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		r.t.Fatalf("Consul: %s: %s: %s", change, response.Status, said)
	}
}

// register lists a service's instance.
func (r *region) register(name string, id int, address string) {
	r.t.Helper()
	host, text, _ := net.SplitHostPort(address)
	port, err := strconv.Atoi(text)
	if err != nil {
		r.t.Fatal(err)
	}
	r.catalogue("register", map[string]any{"Service": map[string]any{"ID": fmt.Sprint(id), "Service": name, "Address": host, "Port": port}})
}

func (r *region) deregister(s *service) {
	r.t.Helper()
	r.catalogue("deregister", map[string]any{"ServiceID": fmt.Sprint(s.id)})
}

// service is a process of a gateway or a worker.
type service struct {
	t              *testing.T
	region         *region
	id             int
	command        *exec.Cmd
	listen, manage string
	said           *testbed.Log
	ended          chan struct{}
}

var started atomic.Int64 // services: each has an id

// start starts a service's process; what it is told comes after what all are told.
func (r *region) start(kind string, environment []string, flags ...string) *service {
	r.t.Helper()
	bin, err := build()
	if err != nil {
		r.t.Fatal(err)
	}
	s := &service{
		t: r.t, region: r, id: int(started.Add(1)), listen: freeAddress(r.t), manage: freeAddress(r.t),
		said: &testbed.Log{}, ended: make(chan struct{}),
	}
	s.command = exec.Command(filepath.Join(bin, "lightcone"), append([]string{kind}, flags...)...)
	s.command.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+r.consul.Address, "LIGHTCONE_MANAGE="+s.manage, "LIGHTCONE_VERBOSE=true",
		"LIGHTCONE_OPERATOR_KEY_FILE="+r.key("operator.key"))
	if kind != "identity" { // it takes no calls
		s.command.Env = append(s.command.Env, "LIGHTCONE_LISTEN="+s.listen)
	}
	if kind != "identity" && kind != "queue" {
		s.command.Env = append(s.command.Env, "LIGHTCONE_FLEET_KEY_FILE="+r.key("fleet.key"))
	}
	s.command.Env = append(s.command.Env, environment...)
	s.command.Stdout, s.command.Stderr = s.said, s.said
	if err := s.command.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		_ = s.command.Wait() // the tests look at its exit code
		close(s.ended)
	}()
	r.t.Cleanup(func() {
		if s.running() {
			s.stop()
		}
		s.keepsSecrets()
		if r.t.Failed() {
			said := s.said.String()
			r.t.Logf("%s said %s", strings.Join(s.command.Args[1:], " "), said[max(0, len(said)-3000):])
		}
	})
	return s
}

func (r *region) gateway(functions string, flags ...string) *service {
	r.t.Helper()
	g := r.start("gateway", []string{"LIGHTCONE_FUNCTIONS=" + functions, "LIGHTCONE_DRAIN_DELAY=300ms"}, flags...)
	within(r.t, "the gateway is up", func() bool { return g.running() && status(g.manage, "/healthz") == 200 })
	return g
}

// workers starts so many workers and waits until they are ready, which is when
// Nomad's check would list them.
func (r *region) workers(count int, function string, flags ...string) (all []*service) {
	r.t.Helper()
	for range count {
		sockets := filepath.Join(os.TempDir(), fmt.Sprintf("lc-test-%d-%d", os.Getpid(), rand.Uint32()))
		r.t.Cleanup(func() { _ = os.RemoveAll(sockets) })
		all = append(all, r.start("worker", []string{"LIGHTCONE_FUNCTION=" + function, "LIGHTCONE_SLOTS=4", "LIGHTCONE_SOCKETS=" + sockets}, flags...))
	}
	for _, w := range all {
		within(r.t, "the worker is up", func() bool { return w.running() && status(w.listen, "/readyz") == 200 })
	}
	return all
}

// enlist has Consul list workers.
func (r *region) enlist(function string, workers ...*service) {
	r.t.Helper()
	for _, w := range workers {
		r.register("worker-"+function, w.id, w.listen)
	}
}

func (s *service) running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *service) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		s.t.Error(err)
	}
}

// stop ends the process as Nomad does, and checks that it went well.
func (s *service) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		if code := s.command.ProcessState.ExitCode(); code != commandline.OK {
			s.t.Errorf("exit code %d: %s", code, s.said)
		}
	case <-time.After(20 * time.Second):
		_ = s.command.Process.Kill() // so that the test ends
		<-s.ended
		s.t.Errorf("it did not end within 20 s: %s", s.said)
	}
}

// keepsSecrets checks that no key was logged.
func (s *service) keepsSecrets() {
	s.t.Helper()
	for _, name := range []string{"demo.key", "operator.key", "fleet.key"} {
		if key := strings.TrimSpace(read(s.t, s.region.key(name))); strings.Contains(s.said.String(), key[20:]) {
			s.t.Errorf("what is in %s is in the log: %s", name, s.said)
		}
	}
}

// status is what a page answers to anybody, and 0 when nothing does.
func status(address, path string) int {
	response, err := http.Get("http://" + address + path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// page is what the operator sees at the management listener.
func (s *service) page(path string) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.manage+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.SetBasicAuth("operator", strings.TrimSpace(read(s.t, s.region.key("operator.key"))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, %v", path, response.Status, err)
	}
	return string(text)
}

// metric is the value of a metric, named with its labels; 0 when there is none.
func (s *service) metric(name string) float64 {
	s.t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(s.page("/metrics"))
	if found == nil {
		return 0
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

// worked is the CPU time that a worker's calls took.
func (s *service) worked(function string) float64 {
	s.t.Helper()
	return s.metric(fmt.Sprintf("lightcone_function_cpu_seconds_total{function=%q}", function))
}

// knows waits until a gateway counts so many ready workers.
func (s *service) knows(ready int) {
	s.t.Helper()
	within(s.t, fmt.Sprintf("the gateway knows %d ready workers", ready), func() bool {
		return s.metric(`lightcone_gateway_fleet_members{state="ready"}`) == float64(ready)
	})
}

// call sends one call to the gateway, with the demo key.
func (s *service) call(client *http.Client, path string, body []byte) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.listen+"/function/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(s.t, s.region.key("demo.key"))))
	request.Header.Set("X-Timeout", "30s")
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	answer, err := io.ReadAll(response.Body)
	return response, answer, errors.Join(err, response.Body.Close())
}
