package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/hashicorp/nomad/api"

	"lightcone/identity/edge"
	"lightcone/internal/testbed"
)

// redisHost is one allocation of redis.nomad.hcl: its scripts and configurations,
// run as they are, on a loopback address that stands for a host.
type redisHost struct {
	address string
	all     *redisHosts
	index   int
	folder  string
	tasks   map[string]*exec.Cmd // those that run
}

// redisHosts are the three of a region.
type redisHosts struct {
	t         *testing.T
	templates map[string][]*api.Template // by task
	ports     map[string]int             // by label
	hosts     []*redisHost
}

var redisPasswords = map[string]string{
	"redis_password": "for-gateways", "redis_replication_password": "among-themselves", "sentinel_password": "who-is-master",
}

func newRedisHosts(t *testing.T) *redisHosts {
	t.Helper()
	ports := testbed.Ports(t, 2)
	source, err := Source("redis")
	if err != nil {
		t.Fatal(err)
	}
	job, err := shared.jobs.Parse(t.Context(), source, map[string]string{
		"port": fmt.Sprint(ports[0]), "sentinel_port": fmt.Sprint(ports[1]), "memory": "64",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.jobs.Validate(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	r := &redisHosts{t: t, templates: make(map[string][]*api.Template), ports: map[string]int{"redis": ports[0], "sentinel": ports[1]}}
	if !strings.Contains(source, edge.ACLRules) {
		t.Errorf("gateways are not granted what they need: %s", edge.ACLRules)
	}
	for _, task := range job.Tasks("redis") {
		r.templates[task] = job.task("redis", task).Templates
	}
	for index := range 3 {
		r.hosts = append(r.hosts, &redisHost{
			address: fmt.Sprintf("127.0.88.%d", 11+index), all: r, index: index, folder: t.TempDir(), tasks: make(map[string]*exec.Cmd),
		})
	}
	t.Cleanup(func() {
		for _, h := range r.hosts {
			h.kill("redis", "sentinel")
			if said, err := os.ReadFile(filepath.Join(h.folder, "said")); t.Failed() {
				t.Logf("%s said (%v)\n%s", h.address, err, said)
			}
		}
	})
	return r
}

// instance is what Consul says of one, and item what Nomad says of a variable's, as
// far as the templates look.
type instance struct {
	ServiceMeta map[string]string
	Address     string
	Port        int
}

type item struct{ Value string }

func (i item) String() string { return i.Value }

// instances are all of a service, the last index first.
func (r *redisHosts) instances(query string) ([]instance, error) {
	label, known := map[string]string{"redis|any": "redis", "redis-sentinel|any": "sentinel"}[query]
	if !known {
		return nil, fmt.Errorf("there is no service %s", query)
	}
	var found []instance
	for _, h := range slices.Backward(r.hosts) {
		found = append(found, instance{map[string]string{"index": fmt.Sprint(h.index)}, h.address, r.ports[label]})
	}
	return found, nil
}

// start renders the task's templates and starts its command, as Nomad does.
func (h *redisHost) start(task string) {
	t := h.all.t
	t.Helper()
	environment := map[string]string{
		"NOMAD_TASK_DIR": filepath.Join(h.folder, task, "local"), "NOMAD_SECRETS_DIR": filepath.Join(h.folder, task, "secrets"),
		"NOMAD_ALLOC_DIR": filepath.Join(h.folder, "alloc"), "NOMAD_ALLOC_INDEX": fmt.Sprint(h.index),
	}
	for label, port := range h.all.ports {
		environment["NOMAD_IP_"+label], environment["NOMAD_PORT_"+label] = h.address, fmt.Sprint(port)
	}
	inFolder := func(path string) string {
		return os.Expand(path, func(name string) string { return environment[name] })
	}
	for _, folder := range []string{environment["NOMAD_TASK_DIR"], environment["NOMAD_SECRETS_DIR"], filepath.Join(environment["NOMAD_ALLOC_DIR"], "data")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	functions := template.FuncMap{
		"env":       func(name string) string { return environment[name] },
		"service":   h.all.instances,
		"sha256Hex": func(text string) string { sum := sha256.Sum256([]byte(text)); return hex.EncodeToString(sum[:]) },
		"nomadVar": func(path string) map[string]item {
			if path != "nomad/jobs" {
				t.Errorf("a template wants the Nomad variable %s", path)
			}
			items := make(map[string]item)
			for name, value := range redisPasswords {
				items[name] = item{value}
			}
			return items
		},
	}
	for _, wanted := range h.all.templates[task] {
		parsed, err := template.New(*wanted.DestPath).Funcs(functions).Option("missingkey=error").Parse(*wanted.EmbeddedTmpl)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := parsed.Execute(&text, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(inFolder(*wanted.DestPath), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("/bin/sh", filepath.Join(environment["NOMAD_TASK_DIR"], task+".sh"))
	command.Dir = filepath.Join(h.folder, task)
	for name, value := range environment {
		command.Env = append(command.Env, name+"="+value)
	}
	out, err := os.OpenFile(filepath.Join(h.folder, "said"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	command.Stdout, command.Stderr = out, out
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	h.tasks[task] = command
}

// kill ends tasks as a power cut does.
func (h *redisHost) kill(tasks ...string) {
	for _, task := range tasks {
		if command := h.tasks[task]; command != nil {
			_ = command.Process.Kill()
			_ = command.Wait() // it was killed
			delete(h.tasks, task)
		}
	}
}

// ask runs one command of redis-cli and gives its answer.
func (h *redisHost) ask(label, user, password string, words ...string) (string, error) {
	arguments := []string{"-e", "-h", h.address, "-p", fmt.Sprint(h.all.ports[label])}
	if user != "" {
		arguments = append(arguments, "--user", user)
	}
	command := exec.Command("timeout", append([]string{"2", "redis-cli"}, append(arguments, words...)...)...)
	command.Env = append(os.Environ(), "REDISCLI_AUTH="+password)
	answer, err := command.CombinedOutput()
	return strings.TrimSpace(string(answer)), err
}

// asGateway is ask with what gateways have.
func (h *redisHost) asGateway(words ...string) (string, error) {
	return h.ask("redis", "lightcone", redisPasswords["redis_password"], words...)
}

// agree waits until all Sentinels that run have the same master, which takes writes
// and has as many replicas in step, and no failover is under way.
func (r *redisHosts) agree(replicas int) (master *redisHost) {
	r.t.Helper()
	err := within(agentBound, "one master", func() error {
		master = nil
		for _, h := range r.hosts {
			if h.tasks["sentinel"] == nil {
				continue
			}
			answer, err := h.ask("sentinel", "", redisPasswords["sentinel_password"], "sentinel", "master", "lightcone")
			if err != nil || !strings.Contains(answer, "\nflags\nmaster\n") {
				return fmt.Errorf("%q, %w", answer, err)
			}
			named := slices.IndexFunc(r.hosts, func(h *redisHost) bool { return strings.Contains(answer, "\nip\n"+h.address+"\n") })
			if named < 0 || master != nil && master != r.hosts[named] {
				return fmt.Errorf("the Sentinels do not agree: %q", answer)
			}
			master = r.hosts[named]
		}
		said, err := master.ask("redis", "replication", redisPasswords["redis_replication_password"], "info", "replication")
		if err != nil || !strings.Contains(said, "role:master") || strings.Count(said, "state=online") != replicas {
			return fmt.Errorf("%s: %q, %w", master.address, said, err)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return master
}

// TestRedisFindsItsMaster runs the specification's own scripts with real servers and
// Sentinels through what happens to them in a region.
func TestRedisFindsItsMaster(t *testing.T) {
	t.Parallel()
	r := newRedisHosts(t)
	for _, h := range slices.Backward(r.hosts) { // index 0, the first master, comes last
		h.start("sentinel")
		h.start("redis")
	}
	first := r.agree(2)
	if first != r.hosts[0] {
		t.Errorf("the first master is index %d", first.index)
	}
	if answer, err := first.asGateway("hset", "lightcone:k", "f", "v"); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	checkAccess(t, first)
	for _, h := range r.hosts { // what no replica has heard of yet may be lost with its master
		err := within(agentBound, "the copy of what was written", func() error {
			answer, err := h.asGateway("hmget", "lightcone:k", "f")
			if err == nil && answer != "v" {
				err = errors.New("it is not there")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	began := time.Now()
	first.kill("redis")
	first.start("redis") // at once: it must not take its office back, empty as it is
	second := r.agree(2)
	t.Logf("another master, with two replicas, after %.1f s", time.Since(began).Seconds())
	if second == first {
		t.Error("the master that was started again at once is master again")
	}
	if answer, err := second.asGateway("hmget", "lightcone:k", "f"); err != nil || answer != "v" {
		t.Errorf("the new master has %q, %v", answer, err)
	}

	// A host that comes again with nothing in memory or on disk, and the master with it.
	second.kill("redis", "sentinel")
	if err := os.RemoveAll(filepath.Join(second.folder, "alloc")); err != nil {
		t.Fatal(err)
	}
	third := r.agree(1)
	second.start("redis")
	second.start("sentinel")
	if still := r.agree(2); still != third {
		t.Error("a Sentinel without memory named another master")
	}

	// All at once. Who was master is at first master again, or down for too long.
	for _, h := range r.hosts {
		h.kill("redis", "sentinel")
	}
	for _, h := range r.hosts {
		h.start("redis")
		h.start("sentinel")
	}
	last := r.agree(2)

	// All at once, and the master stays away.
	for _, h := range r.hosts {
		h.kill("redis", "sentinel")
	}
	for _, h := range r.hosts {
		if h != last {
			h.start("redis")
			h.start("sentinel")
		}
	}
	r.agree(1)
}

// checkAccess tries what each password may not do.
func checkAccess(t *testing.T, master *redisHost) {
	t.Helper()
	for _, test := range []struct {
		label, user, password, command, denial string
	}{
		{"redis", "lightcone", "redis_password", "hmget other f", "NOPERM"},
		{"redis", "lightcone", "redis_password", "publish other m", "NOPERM"},
		{"redis", "lightcone", "redis_password", "flushall", "NOPERM"},
		{"redis", "lightcone", "redis_password", "config get requirepass", "NOPERM"},
		{"redis", "lightcone", "redis_password", "client list", "NOPERM"},
		{"redis", "lightcone", "redis_password", "client kill type pubsub", "NOPERM"},
		{"redis", "lightcone", "redis_password", "keys lightcone:*", "NOPERM"},
		{"redis", "lightcone", "redis_password", "replicaof no one", "NOPERM"},
		{"redis", "lightcone", "sentinel_password", "hmget lightcone:k f", "NOAUTH"},
		{"redis", "", "redis_password", "hmget lightcone:k f", "NOAUTH"},
		{"redis", "replication", "redis_replication_password", "hmget lightcone:k f", "NOPERM"},
		{"redis", "replication", "redis_replication_password", "config get *", "NOPERM"},
		{"sentinel", "", "redis_password", "sentinel masters", "NOAUTH"},
		{"sentinel", "", "sentinel_password", "sentinel failover lightcone", "NOPERM"},
		{"sentinel", "", "sentinel_password", "sentinel set lightcone quorum 1", "NOPERM"},
		{"sentinel", "", "sentinel_password", "publish __sentinel__:hello x", "NOPERM"},
		{"sentinel", "", "sentinel_password", "shutdown", "NOPERM"},
	} {
		answer, err := master.ask(test.label, test.user, redisPasswords[test.password], strings.Fields(test.command)...)
		if err == nil || !strings.Contains(answer, test.denial) {
			t.Errorf("%s with %s of %q: %q, %v", test.command, test.password, test.user, answer, err)
		}
	}
	for _, command := range []string{"hmget lightcone:k f", "hincrby lightcone:n f 2", "expire lightcone:n 60", "publish lightcone:changes x", "eval return(redis.call('hmget',KEYS[1],'f')) 1 lightcone:k", "ping", "info"} {
		if answer, err := master.asGateway(strings.Fields(command)...); err != nil {
			t.Errorf("%s: %q, %v", command, answer, err)
		}
	}
}
