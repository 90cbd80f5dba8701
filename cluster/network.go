package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// command runs a program to its end and puts what it printed into the error.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ip runs iproute2's ip with the words of line as its arguments.
func ip(ctx context.Context, format string, args ...any) error {
	return command(ctx, "ip", strings.Fields(fmt.Sprintf(format, args...))...)
}

// plug makes the bridge and the racks' namespaces, and joins them by cables.
func plug(ctx context.Context) error {
	steps := []string{
		fmt.Sprintf("link add %s type bridge", bridge),
		fmt.Sprintf("addr add %s/%d dev %s", serverAddress, subnetBits, bridge),
		fmt.Sprintf("link set %s up", bridge),
	}
	for _, h := range racks() {
		steps = append(steps,
			"netns add "+h.Name,
			fmt.Sprintf("link add %s type veth peer name eth0 netns %s", h.veth(), h.Name),
			fmt.Sprintf("link set %s master %s up", h.veth(), bridge),
			fmt.Sprintf("-n %s addr add %s/%d dev eth0", h.Name, h.Address, subnetBits),
			fmt.Sprintf("-n %s link set eth0 up", h.Name),
			fmt.Sprintf("-n %s link set lo up", h.Name),
			fmt.Sprintf("-n %s route add default via %s", h.Name, serverAddress),
		)
	}
	for _, step := range steps {
		if err := ip(ctx, "%s", step); err != nil {
			return err
		}
	}
	return nil
}

// unplug removes what plug made, as far as it is there.
func unplug(ctx context.Context) {
	for _, h := range racks() {
		_ = ip(ctx, "netns del %s", h.Name) // takes its end of the cable with it, and so the other
		_ = ip(ctx, "link del %s", h.veth())
	}
	_ = ip(ctx, "link del %s", bridge)
}

// cut pulls a rack's cable, heal plugs it in again.
func cut(ctx context.Context, h host) error { return ip(ctx, "link set %s down", h.veth()) }

func heal(ctx context.Context, h host) error { return ip(ctx, "link set %s up", h.veth()) }
