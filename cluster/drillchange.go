package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// change applies the region's variables with a change, as its operator would.
func (d *drills) change(ctx context.Context, change func(variables map[string]any)) error {
	variables, err := d.currentVariables()
	if err != nil {
		return err
	}
	change(variables)
	return d.provision.apply(ctx, io.Discard, variables)
}

func (d *drills) currentVariables() (map[string]any, error) {
	text, err := os.ReadFile(d.provision.variablesFile())
	if err != nil {
		return nil, err
	}
	var variables map[string]any
	return variables, json.Unmarshal(text, &variables)
}

// functionIn is one function's entry in the variables.
func functionIn(variables map[string]any, name string) map[string]any {
	return variables["functions"].(map[string]any)[name].(map[string]any)
}

func (d *drills) updateWorkers(ctx context.Context) error {
	before, err := d.running(ctx, "worker-resize")
	if err != nil {
		return err
	}
	began := time.Now()
	err = d.change(ctx, func(v map[string]any) {
		resize := functionIn(v, "resize")
		resize["memory"] = resize["memory"].(float64) + 1
	})
	if err != nil {
		return err
	}
	after, err := d.running(ctx, "worker-resize")
	if err != nil {
		return err
	}
	for _, old := range before {
		for _, now := range after {
			if old.ID == now.ID {
				return fmt.Errorf("worker %s was not replaced", old.ID)
			}
		}
	}
	d.note("%d workers replaced in %.0f s", len(after), time.Since(began).Seconds())
	return nil
}

func (d *drills) deployBadBuild(ctx context.Context) error {
	archive := filepath.Join(agentsFolder, "bad.tar.gz")
	// The wrong executable under the right name: it starts, and ends at once.
	if err := pack(archive, filepath.Join(d.project, "bin", "lightcone-resize"), "lightcone"); err != nil {
		return err
	}
	bad, err := publish(archive)
	if err != nil {
		return err
	}
	return d.expectRevert(ctx, func(v map[string]any) {
		v["release"] = map[string]any{"url": bad.url, "sha256": bad.sha256}
	})
}

func (d *drills) deployBadConfig(ctx context.Context) error {
	// Every rule of the specification allows it; the gateway does not.
	return d.expectRevert(ctx, func(v map[string]any) { v["max_wait"] = "0s" })
}

func (d *drills) deployNothing(ctx context.Context) error {
	return d.expectRevert(ctx, func(v map[string]any) {
		missing := map[string]any{"url": "http://" + releaseAddress + "/missing.tar.gz", "sha256": strings.Repeat("0", 64)}
		v["release"] = missing
	})
}

// undeployed is how Terraform says that a job's deployment failed.
var undeployed = regexp.MustCompile(`The job (\S+) was registered and did not deploy`)

// expectRevert applies a change that cannot work: Terraform must say so, and
// Nomad must go back by itself to what worked.
func (d *drills) expectRevert(ctx context.Context, change func(map[string]any)) error {
	good, err := d.currentVariables()
	if err != nil {
		return err
	}
	before, err := d.versions(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	err = d.change(ctx, change)
	if err == nil {
		return errors.New("the change passed for a good one")
	}
	failed := undeployed.FindAllStringSubmatch(err.Error(), -1)
	if len(failed) == 0 {
		return fmt.Errorf("the apply failed for another reason: %w", err)
	}
	d.note("terraform apply failed after %.0f s", time.Since(began).Seconds())
	if err := d.settled(ctx); err != nil {
		return err
	}
	after, err := d.versions(ctx)
	if err != nil {
		return err
	}
	for _, match := range failed {
		job := match[1]
		if after[job] < before[job]+2 { // the bad one, and the good one again
			return fmt.Errorf("job %s was not taken back: its version was %d and is %d", job, before[job], after[job])
		}
		d.note("job %s is what it was before", job)
	}
	return d.provision.apply(ctx, io.Discard, good)
}

// versions are the newest versions of the region's jobs that have canaries.
func (d *drills) versions(ctx context.Context) (map[string]uint64, error) {
	versions := make(map[string]uint64)
	for job, group := range deployed {
		count, err := d.nomad.Count(ctx, job, group)
		if err != nil {
			return nil, err
		}
		versions[job] = count.Version
	}
	return versions, nil
}

// pack makes a .tar.gz of one executable under another name.
func pack(archive, executable, name string) error {
	content, err := os.ReadFile(executable)
	if err != nil {
		return err
	}
	file, err := os.Create(archive)
	if err != nil {
		return err
	}
	zipped := gzip.NewWriter(file)
	packed := tar.NewWriter(zipped)
	err = packed.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = packed.Write(content)
	}
	return errors.Join(err, packed.Close(), zipped.Close(), file.Close())
}
