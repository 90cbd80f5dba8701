package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// operatorsURL is the operators' port of the load balancer, which leads to the
// management plane, too.
const operatorsURL = "http://127.0.0.1:8404"

// demoKey is the file with the key of the tenant demo.
func (c *cluster) demoKey() string { return filepath.Join(c.folder, "demo.key") }

// operate runs one of lightcone's commands as the region's operator and gives what
// it printed; when it fails, the error is what it said.
func (c *cluster) operate(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(c.project, "bin", "lightcone"), args...)
	command.Env = append(cleanEnvironment(os.Environ()),
		"LIGHTCONE_MANAGE_URL="+operatorsURL, "LIGHTCONE_OPERATOR_KEY_FILE="+filepath.Join(c.folder, "operator.key"))
	var said bytes.Buffer
	command.Stderr = &said
	printed, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("lightcone %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(printed)), nil
}

// admitDemo makes the tenant demo and its key, the way any tenant gets one. What was
// in an earlier cluster's Consul is gone, so an earlier key is worth nothing.
func (c *cluster) admitDemo(ctx context.Context) error {
	var failed error
	if waitUntil(ctx, 30*time.Second, func() bool { // the load balancer has to find the management plane
		_, failed = c.operate(ctx, "tenant", "list")
		return failed == nil
	}) != nil {
		return failed
	}
	if _, err := c.operate(ctx, "tenant", "create", "demo", "--name", "Demonstration"); err != nil {
		return err
	}
	key, err := c.operate(ctx, "key", "create", "demo", "--scope", "*")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(c.demoKey()); err != nil { // an old one's mode would stay
		return err
	}
	if err := os.WriteFile(c.demoKey(), []byte(key+"\n"), 0o600); err != nil {
		return err
	}
	return giveToUser(c.folder, os.Getenv)
}
