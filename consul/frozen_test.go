package consul

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// candidateKey is set for a candidate process: this test binary, run again.
const candidateKey = "LIGHTCONE_TEST_CANDIDATE"

// frozenFor is the gap in its clock by which a candidate process knows that it
// was stopped; a busy machine makes shorter ones.
const frozenFor = testTTL

// standAsProcess leads and prints what it sees: "leading", and after a gap in
// time "woke", whether it trusts itself then, and what Consul says to an effect
// sent all the same.
func standAsProcess() {
	c, err := Connect(Config{}) // where and as whom are in the environment
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()
	config := ElectionConfig{Key: officeKey, Name: "process", TTL: testTTL, LockDelay: testLockDelay}
	err = NewElection(c, config).Run(ctx, func(_ context.Context, term Term) error {
		entry, _, err := c.Get(ctx, counterKey)
		last := time.Now() // before the word by which the parent knows when to stop this process
		fmt.Println("leading", term.Epoch(), err)
		for {
			time.Sleep(10 * time.Millisecond)
			now := time.Now()
			gap := now.Sub(last)
			last = now
			if gap < frozenFor {
				continue
			}
			trusted := term.Trusted()
			_, fencedErr := term.PutFenced(ctx, counterKey, []byte("late"), entry.Index)
			_, rawErr := term.session.putFenced(ctx, counterKey, []byte("late"), entry.Index)
			fmt.Println("woke", trusted, errors.Is(fencedErr, ErrNotLeader), errors.Is(rawErr, ErrNotLeader), rawErr)
			return nil
		}
	})
	fmt.Println("ended", err)
}

// process starts a candidate process and waits until it leads.
func process(t *testing.T, a *agent, token string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^$")
	command.Env = append(os.Environ(), candidateKey+"=1", "CONSUL_HTTP_ADDR="+a.Address, "CONSUL_HTTP_TOKEN="+token)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may be dead already
		_, _ = io.Copy(io.Discard, out)
		_ = command.Wait() // killed
	})
	if err := out.(*os.File).SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	says := bufio.NewReader(out)
	if line, err := says.ReadString('\n'); err != nil || !strings.HasPrefix(line, "leading") {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return command, says
}

// TestAFrozenLeaderIsFenced stops a leading process for so long that another
// leads, and lets it go on: it does not trust itself, and Consul does not either.
func TestAFrozenLeaderIsFenced(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c := a.scheduler()
	command, says := process(t, a, c.Token())
	o := newOffice(t)
	o.stand("other", c, ElectionConfig{})
	if err := command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	o.awaitEffect(testTakeover, "the other leads", anybody)
	took := time.Since(began)
	time.Sleep(frozenFor + time.Second - took) // a machine so busy that it lost the office before: the gap must be seen all the same
	if err := command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	line, err := says.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "woke false true true") {
		t.Errorf("the process says %q, %v", line, err)
	}
	t.Logf("taken over after %v; the process says %s", took, line)
	o.awaitEffect(testTakeover, "the other still leads", anybody)
	o.verify(a.client(management))
}

// TestAKilledLeaderIsReplaced, within twice the TTL and the lock delay.
func TestAKilledLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c := a.scheduler()
	command, _ := process(t, a, c.Token())
	o := newOffice(t)
	o.stand("other", c, ElectionConfig{})
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	o.awaitEffect(testTakeover, "the other leads", anybody)
	t.Logf("taken over after %v, TTL %v, lock delay %v", time.Since(killed), testTTL, testLockDelay)
	o.verify(a.client(management))
}
