package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lightcone/cmd/internal/commandline"
)

// contents are the files of a folder.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, entry := range entries {
		found[entry.Name()] = read(t, filepath.Join(folder, entry.Name()))
	}
	return found
}

func TestKeys(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	make := func() {
		t.Helper()
		if code, stdout, stderr := runCommand(t, "", "keys", "--out", folder); code != commandline.OK || stdout+stderr != "" {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
	make()
	files := contents(t, folder)
	all := []string{"callback.key", "fleet.key", "keys.json", "operator.key", "queue-ca.key", "queue-ca.pem", "queue-route.password", "queue.key", "queue.password", "queue.pem", "redis-replication.password", "redis.password", "sentinel.password"}
	if diff := cmp.Diff(all, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Fatal(diff)
	}
	for name := range files {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	var variable regionKeys
	if err := decodeStrictly(files["keys.json"], &variable); err != nil {
		t.Fatal(err)
	}
	if variable.Path != "nomad/jobs" || variable.Items.OperatorKey+"\n" != files["operator.key"] {
		t.Errorf("keys.json does not hold the keys of the other files: %s", files["keys.json"])
	}
	shared := map[string]string{
		"fleet.key": variable.Items.FleetKey, "redis.password": variable.Items.Redis,
		"redis-replication.password": variable.Items.Replication, "sentinel.password": variable.Items.Sentinel,
		"queue.password": variable.Items.Queue, "queue-route.password": variable.Items.QueueRoute,
		"callback.key": variable.Items.Callback,
	}
	for name, text := range map[string]string{"queue-ca.pem": variable.Items.QueueCA, "queue.pem": variable.Items.QueueNode, "queue.key": variable.Items.QueueKey} {
		if text != files[name] || text == "" {
			t.Errorf("keys.json does not hold what is in %s: %q", name, text)
		}
	}
	if strings.Contains(files["keys.json"], strings.Split(files["queue-ca.key"], "\n")[1]) {
		t.Error("keys.json holds the key of the queue's certificate authority, which no service needs")
	}
	different := map[string]bool{}
	for name, secret := range shared {
		if different[secret] = true; secret+"\n" != files[name] || len(secret) < 40 {
			t.Errorf("keys.json does not hold what is in %s: %q", name, secret)
		}
	}
	if len(different) != len(shared) {
		t.Errorf("secrets are alike: %v", different)
	}
	// A second time changes nothing, and makes what is missing.
	if err := os.Chmod(filepath.Join(folder, "keys.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	make()
	if diff := cmp.Diff(files, contents(t, folder)); diff != "" {
		t.Errorf("the second run changed files:\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(folder, "keys.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keys.json: %v, %v", info.Mode(), err)
	}
	if err := os.Remove(filepath.Join(folder, "fleet.key")); err != nil {
		t.Fatal(err)
	}
	make()
	again := contents(t, folder)
	if again["fleet.key"] == files["fleet.key"] || again["operator.key"] != files["operator.key"] || !strings.Contains(again["keys.json"], strings.TrimSpace(again["fleet.key"])) {
		t.Error("a new fleet key was not made, or the others were")
	}
}

func TestKeysThatCannotBeMade(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "file"), "")
	for _, spoilt := range []string{"operator.key", "fleet.key", "sentinel.password", "queue.password", "queue-ca.pem"} {
		folder := t.TempDir()
		write(t, filepath.Join(folder, spoilt), "\n")
		code, _, stderr := runCommand(t, "", "keys", "--out", folder)
		if code != commandline.Failed || !strings.Contains(stderr, filepath.Join(folder, spoilt)) {
			t.Errorf("%s is spoilt: exit code %d, %s", spoilt, code, stderr)
		}
		if got := read(t, filepath.Join(folder, spoilt)); got != "\n" {
			t.Errorf("%s was overwritten with %q", spoilt, got)
		}
		if _, err := os.Stat(filepath.Join(folder, "keys.json")); err == nil {
			t.Errorf("%s is spoilt, and keys.json was made all the same", spoilt)
		}
	}
	if code, _, stderr := runCommand(t, "", "keys", "--out", file); code != commandline.Failed || !strings.Contains(stderr, file) {
		t.Errorf("a file for a folder: exit code %d, %s", code, stderr)
	}
	if text, err := json.Marshal(regionKeys{}); err != nil || !strings.Contains(string(text), `{"Path":"","Items":{"fleet_key":"","operator_key":"","redis_password":"","redis_replication_password":"","sentinel_password":"","queue_password":"","queue_route_password":"","queue_ca":"","queue_certificate":"","queue_key":"","callback_key":""}}`) {
		t.Errorf("what `nomad var put -in=json` reads: %s, %v", text, err)
	}
}
