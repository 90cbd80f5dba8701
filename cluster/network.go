package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"lightcone/internal/hosts"
)

// command runs a program to its end and puts what it printed into the error.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// network is the racks as hosts that are joined by a bridge.
func network() hosts.Network {
	n := hosts.Network{Bridge: bridge, Address: serverAddress, Bits: subnetBits}
	for _, h := range racks() {
		n.Hosts = append(n.Hosts, h.wired())
	}
	return n
}

// wired is a rack's host as one that has a cable.
func (h host) wired() hosts.Host {
	return hosts.Host{Name: h.Name, Address: h.Address, Cable: "lightcone-" + h.Rack}
}
