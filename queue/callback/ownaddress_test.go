package callback_test

import (
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lightcone/queue/callback"
)

// TestThisMachinesPublicAddress: a public address leads out, unless it is the machine's
// own, where it leads behind the firewall. The test has a network namespace to itself, in which
// one public address is the machine's own and all others are, by routing, its own too but
// on no interface.
func TestThisMachinesPublicAddress(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace, which takes root: %v", err)
	}
	for _, line := range []string{"link set lo up", "address add 8.8.8.8/32 dev lo", "route add local 9.9.9.0/24 dev lo"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	server := listen(t, "0.0.0.0:0", false, status(200))
	strict := senderWith(t, func(c *callback.Config) { c.Rules = callback.Rules{} })
	for address, want := range map[string]callback.Outcome{"9.9.9.9": callback.Delivered, "8.8.8.8": callback.GivenUp} {
		if verdict := strict.Deliver(t.Context(), noticeTo("http://"+address+":"+portOf(server)), 1); verdict.Outcome != want {
			t.Errorf("%s: %+v", address, verdict)
		}
	}
	rules, err := callback.NewRules([]netip.Prefix{netip.MustParsePrefix("8.8.8.8/32")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	allowing := senderWith(t, func(c *callback.Config) { c.Rules = rules })
	if verdict := allowing.Deliver(t.Context(), noticeTo("http://8.8.8.8:"+portOf(server)), 1); verdict.Outcome != callback.Delivered {
		t.Errorf("the operator allows it: %+v", verdict)
	}
	if got := server.heard(); len(got) != 2 {
		t.Errorf("the server heard %d requests", len(got))
	}
}

// TestSecondAddress: a host's other addresses are tried when one does not answer.
func TestSecondAddress(t *testing.T) {
	server := listen(t, "127.0.0.1:0", false, status(200))
	_, resolver := startNameserver(t, always(map[string][]string{"two.example.": {"127.0.0.3", "127.0.0.1"}}))
	rules, err := callback.NewRules([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sender := senderWith(t, func(c *callback.Config) { c.Rules, c.Resolver = rules, resolver })
	if verdict := sender.Deliver(t.Context(), noticeTo("http://two.example:"+portOf(server)), 1); verdict.Outcome != callback.Delivered {
		t.Errorf("%+v", verdict)
	}
}
