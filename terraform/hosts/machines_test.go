package hosts

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test hosts' own network, and the bridge that this machine reaches it by.
const (
	bridge        = "lc-hosts"
	bridgeAddress = "10.77.91.1"
	cgroupPrefix  = "lightcone-hosts-test-"
)

// machine is a test host: one process with network, mount, process and name
// spaces of its own, whose files are this machine's under a layer in memory.
type machine struct {
	name    string
	address string
	hostKey string // public
	outer   int    // the process that made the spaces
	first   int    // the SSH server, the first process inside
}

// mustRun runs a command of the test's own set-up within ten seconds.
func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // also in clean-ups, after t.Context has ended
	defer cancel()
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// newBridge makes the hosts' network; one that a killed test left is replaced.
func newBridge(t *testing.T) {
	t.Helper()
	if _, err := net.InterfaceByName(bridge); err == nil {
		mustRun(t, "ip", "link", "delete", bridge)
	}
	mustRun(t, "ip", "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { mustRun(t, "ip", "link", "delete", bridge) })
	mustRun(t, "ip", "address", "add", bridgeAddress+"/24", "dev", bridge)
	mustRun(t, "ip", "link", "set", bridge, "up")
}

// newKey makes an SSH key pair and gives the private one's file and the public one.
func newKey(t *testing.T, file string) (path, public string) {
	t.Helper()
	mustRun(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lightcone-test", "-f", file)
	content, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(content))
}

// startMachine starts a host that the key may log in to as admin, who has sudo.
func startMachine(t *testing.T, name, address, authorized string) machine {
	t.Helper()
	work, settings := t.TempDir(), t.TempDir()
	_, hostKey := newKey(t, filepath.Join(settings, "host_key"))
	for file, content := range map[string]string{
		"authorized_keys": authorized + "\n",
		"sshd_config": "Port 22\nHostKey /run/sshd/host_key\nAuthorizedKeysFile /run/sshd/authorized_keys\n" +
			"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin no\nMaxStartups 100\nPidFile none\nLogLevel ERROR\n",
	} {
		if err := os.WriteFile(filepath.Join(settings, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(settings, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL",
		"bash", "testdata/host.sh", work, filepath.Join(settings, "sshd_config"))
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a killed test leaves no host
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	m := machine{name: name, address: address, hostKey: hostKey, outer: command.Process.Pid}
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("the SSH server of %s said: %s", name, said)
		}
		if m.first != 0 {
			_ = syscall.Kill(m.first, syscall.SIGTERM) // it may have ended; all else inside ends with it
		} else {
			_ = command.Process.Kill()
		}
		_ = command.Wait() // sshd's exit status after SIGTERM says nothing
		removeCgroups(name)
	})
	within(t, 10*time.Second, "the first process of "+name, func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.outer, m.outer))
		if err != nil {
			return err
		}
		m.first, err = strconv.Atoi(strings.TrimSpace(string(children)))
		return err
	})
	m.connect(t)
	return m
}

// connect plugs the host into the bridge and waits for its SSH server.
func (m *machine) connect(t *testing.T) {
	t.Helper()
	inside, outside := "eth-"+m.name, "lch-"+m.name
	mustRun(t, "ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
	mustRun(t, "ip", "link", "set", outside, "master", bridge, "up")
	mustRun(t, "ip", "link", "set", inside, "netns", strconv.Itoa(m.outer))
	in := []string{"--target", strconv.Itoa(m.outer), "--net", "ip"}
	mustRun(t, "nsenter", append(in, "address", "add", m.address+"/24", "dev", inside)...)
	mustRun(t, "nsenter", append(in, "link", "set", inside, "up")...)
	within(t, 10*time.Second, "the SSH server of "+m.name, func() error {
		connection, err := net.DialTimeout("tcp", m.address+":22", time.Second)
		if err == nil {
			err = connection.Close()
		}
		return err
	})
}

// path is where this machine finds a file of the host.
func (m *machine) path(file string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.first, file)
}

// processes are the host's, by number here, with the command line of each.
func (m *machine) processes(t *testing.T) map[int]string {
	t.Helper()
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", m.first))
	if err != nil {
		t.Fatalf("%s has ended: %v", m.name, err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]string)
	for _, link := range links {
		number := strings.Split(link, "/")[2]
		if of, err := os.Readlink(link); err != nil || of != space {
			continue // ended since, or elsewhere
		}
		command, err := os.ReadFile("/proc/" + number + "/cmdline")
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(number); err == nil {
			found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return found
}

// agents are the numbers of the host's agents, by name.
func (m *machine) agents(t *testing.T) map[string]int {
	t.Helper()
	found := make(map[string]int)
	for pid, command := range m.processes(t) {
		for _, name := range []string{"consul", "nomad"} {
			if strings.HasPrefix(command, "/usr/local/bin/"+name+" agent ") { // Nomad's executors have its name, too
				found[name] = pid
			}
		}
	}
	return found
}

// removeCgroups takes away what a host's Nomad left among this machine's control
// groups, which are the only thing that the hosts share with it.
func removeCgroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		tops, _ := filepath.Glob(pattern + cgroupPrefix + name + "*") // the pattern is well formed
		for _, top := range tops {
			var folders []string
			_ = filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					folders = append(folders, path)
				}
				return nil
			})
			for i := len(folders) - 1; i >= 0; i-- {
				_ = os.Remove(folders[i]) // only empty groups can go
			}
		}
	}
}

// within waits for a condition for at most a time, and fails with its last word.
func within(t *testing.T, bound time.Duration, what string, condition func() error) {
	t.Helper()
	for end := time.Now().Add(bound); ; time.Sleep(50 * time.Millisecond) {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, bound, err)
		}
	}
}
