package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// down stops and removes everything that up made, as far as it is there, whatever
// state it is in. Keys and photographs stay: they are the user's. Tenants go with
// Consul, and so does the key of one of them.
func (c *cluster) down(ctx context.Context, say io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("what the cluster started belongs to root: run `sudo make cluster-down`")
	}
	began := time.Now()
	if err := c.load(); err != nil {
		return err
	}
	// The agents first, at once and hard: asked kindly, each would first drain. What
	// they ran goes on without them, and is ended by its cgroups.
	for _, p := range c.processes {
		_ = p.signal(syscall.SIGKILL) // gone is as good
	}
	for _, p := range c.processes {
		if err := waitUntil(ctx, 10*time.Second, func() bool { return !p.alive() }); err != nil {
			return fmt.Errorf("%s (pid %d) does not end: %w", p.Name, p.PID, err)
		}
	}
	if err := endTasks(ctx); err != nil {
		return err
	}
	network().Unplug(ctx)
	if err := unmountBelow(agentsFolder); err != nil {
		return err
	}
	removeCgroups(allocations())
	if err := os.RemoveAll(agentsFolder); err != nil {
		return err
	}
	for _, name := range []string{"terraform.tfstate", "terraform.tfstate.backup", "terraform.tfvars.json", "terraform.rc", "consul.token", "demo.key", ".terraform"} {
		if err := os.RemoveAll(filepath.Join(c.folder, name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(say, "the cluster is gone (%.1f s); its services' keys and photographs are still in %s\n", time.Since(began).Seconds(), c.folder)
	return nil
}

// allocations are the ids of Nomad's allocations on the hosts. Each has a folder,
// and its tasks' control groups are named after it, whatever version of control
// groups this machine has.
func allocations() []string {
	folders, _ := filepath.Glob(agentsFolder + "/*/alloc/*") // fails for a bad pattern only
	for i, folder := range folders {
		folders[i] = filepath.Base(folder)
	}
	return folders
}

// tasks are the processes that the agents started: tasks, which are in the
// allocations' control groups, and Nomad's own helpers, which work in the agents'
// folder.
func tasks() []int {
	ids := allocations()
	entries, _ := os.ReadDir("/proc") // a machine without /proc has no cluster
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		groups, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cgroup")) // gone meanwhile: none
		folder, _ := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd"))
		ours := slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(string(groups), id) })
		if (ours || folder == agentsFolder || strings.HasPrefix(folder, agentsFolder+"/")) && startOf(pid) != "" {
			found = append(found, pid)
		}
	}
	return found
}

// endTasks kills what Nomad started, until none of it is left.
func endTasks(ctx context.Context) error {
	err := waitUntil(ctx, 20*time.Second, func() bool {
		left := tasks()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone is as good
		}
		return len(left) == 0
	})
	if err != nil {
		return fmt.Errorf("processes %v do not end: %w", tasks(), err)
	}
	return nil
}

// unmountBelow unmounts everything that is mounted below folder, the deepest first.
func unmountBelow(folder string) error {
	file, err := os.Open("/proc/self/mounts")
	if err != nil {
		return err
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && strings.HasPrefix(fields[1], folder+"/") {
			points = append(points, fields[1])
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	slices.Sort(points)
	slices.Reverse(points)
	for _, point := range points {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// removeCgroups removes the allocations' control groups, the innermost first. One
// that cannot be removed is empty and harms nobody.
func removeCgroups(ids []string) {
	var folders []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(path, id) }) {
			folders = append(folders, path)
		}
		return nil // a group that went away meanwhile is as good
	})
	slices.Reverse(folders)
	for _, folder := range folders {
		_ = os.Remove(folder)
	}
}
