package hosts

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHosts pings from one host to the other, through a cable that is pulled and
// plugged in again.
func TestHosts(t *testing.T) {
	network := Network{Bridge: "lchosts0", Address: "10.88.79.1", Bits: 24, Hosts: []Host{
		{Name: "lchosts-a", Address: "10.88.79.11", Cable: "lchosts-a"},
		{Name: "lchosts-b", Address: "10.88.79.12", Cable: "lchosts-b"},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	network.Unplug(ctx) // of a run that was interrupted
	defer func() {
		network.Unplug(ctx)
		for _, path := range []string{"/run/netns/lchosts-a", "/sys/class/net/lchosts0", "/sys/class/net/lchosts-b"} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s is left", path)
			}
		}
	}()
	if err := network.Plug(ctx); err != nil {
		t.Fatal(err)
	}
	reach := func() error {
		// A connection that nobody accepts is refused at once by a host that is there.
		program, args := network.Hosts[0].Inside("bash", "-c", "exec 3<>/dev/tcp/"+network.Hosts[1].Address+"/9")
		out, err := exec.CommandContext(ctx, "timeout", append([]string{"2", program}, args...)...).CombinedOutput()
		if strings.Contains(string(out), "refused") {
			return nil
		}
		return err
	}
	await := func(want bool) {
		t.Helper()
		for begun := time.Now(); (reach() == nil) != want; {
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("reached: %v, want %v", !want, want)
			}
		}
	}
	await(true)
	if err := network.Hosts[1].Cut(ctx); err != nil {
		t.Fatal(err)
	}
	await(false)
	if err := network.Hosts[1].Heal(ctx); err != nil {
		t.Fatal(err)
	}
	await(true)
	if err := network.Plug(ctx); err == nil || !strings.Contains(err.Error(), "lchosts0") {
		t.Errorf("a second bridge of the name: %v", err)
	}
}
