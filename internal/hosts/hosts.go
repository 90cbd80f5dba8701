// Package hosts makes several hosts of one machine: network namespaces that are
// joined by a bridge, each with a cable that can be pulled.
//
// Invariants: what Plug made, Unplug removes, also after a Plug that failed half
// way; a cable that was cut and healed carries what it carried before; nothing of
// this machine's own network is touched but the bridge.
//
// It needs root and iproute2. It starts nothing in a host and keeps no state: whoever
// uses it names the hosts. It does not imitate slow or lossy networks.
package hosts

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Network is a private subnet of hosts.
type Network struct {
	Bridge  string // the interface that joins them, at most 15 bytes; this machine's end of the subnet
	Address string // this machine's in the subnet, IPv4; the hosts' way out
	Bits    int    // of the subnet's prefix
	Hosts   []Host
}

// Host is one network namespace.
type Host struct {
	Name    string // the namespace's
	Address string // in the subnet
	Cable   string // the interface that is plugged into the bridge, at most 15 bytes
}

// Plug makes the bridge and the hosts, and joins them.
func (n Network) Plug(ctx context.Context) error {
	steps := []string{
		fmt.Sprintf("link add %s type bridge", n.Bridge),
		fmt.Sprintf("addr add %s/%d dev %s", n.Address, n.Bits, n.Bridge),
		fmt.Sprintf("link set %s up", n.Bridge),
	}
	for _, h := range n.Hosts {
		steps = append(steps,
			"netns add "+h.Name,
			fmt.Sprintf("link add %s type veth peer name eth0 netns %s", h.Cable, h.Name),
			fmt.Sprintf("link set %s master %s up", h.Cable, n.Bridge),
			fmt.Sprintf("-n %s addr add %s/%d dev eth0", h.Name, h.Address, n.Bits),
			fmt.Sprintf("-n %s link set eth0 up", h.Name),
			fmt.Sprintf("-n %s link set lo up", h.Name),
			fmt.Sprintf("-n %s route add default via %s", h.Name, n.Address),
		)
	}
	for _, step := range steps {
		if err := ip(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// Unplug removes what Plug made, as far as it is there.
func (n Network) Unplug(ctx context.Context) {
	for _, h := range n.Hosts {
		_ = ip(ctx, "netns del "+h.Name) // takes its end of the cable with it, and so the other
		_ = ip(ctx, "link del "+h.Cable)
	}
	_ = ip(ctx, "link del "+n.Bridge)
}

// Cut pulls the host's cable.
func (h Host) Cut(ctx context.Context) error { return ip(ctx, "link set "+h.Cable+" down") }

// Heal plugs the host's cable in again.
func (h Host) Heal(ctx context.Context) error { return ip(ctx, "link set "+h.Cable+" up") }

// Inside is the command line that runs program in the host. It is not `ip netns
// exec`, which mounts a /sys of its own, without the cgroups.
func (h Host) Inside(program string, args ...string) (string, []string) {
	return "nsenter", append([]string{"--net=/run/netns/" + h.Name, program}, args...)
}

// ip runs iproute2's ip with the words of line as its arguments.
func ip(ctx context.Context, line string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}
