package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"lightcone/internal/run"
)

const synopsis = `usage: cluster up | drill [NAME...] | down

up      make a whole region on this machine: three racks, Consul, Nomad, Lightcone
drill   let things go wrong in it under load, and print what callers saw
down    stop and remove it

Run it from the project's root, as ` + "`make cluster`, `make drill` and `make cluster-down` do"

func main() {
	ctx, release := run.UntilSignal(context.Background())
	err := act(ctx, os.Args[1:], os.Stdout)
	release()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func act(ctx context.Context, args []string, say io.Writer) error {
	if len(args) == 0 || len(args) > 1 && args[0] != "drill" {
		return errors.New(synopsis)
	}
	switch args[0] {
	case "up":
		c, err := prepared(ctx)
		if err != nil {
			return err
		}
		return c.up(ctx, say)
	case "drill":
		c, err := prepared(ctx)
		if err != nil {
			return err
		}
		return c.drill(ctx, args[1:], say)
	case "down":
		c, err := here()
		if err != nil {
			return err
		}
		return c.down(ctx, say)
	case "serve-releases": // up starts it
		return serveReleases()
	default:
		return fmt.Errorf("there is no command %q\n%s", args[0], synopsis)
	}
}

// here is the cluster of the project whose root this is.
func here() (*cluster, error) {
	project, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(project, "jobs", "gateway.nomad.hcl")); err != nil {
		return nil, fmt.Errorf("this is not the project's root: %w", err)
	}
	return &cluster{project: project, folder: filepath.Join(project, "lightcone-cluster")}, nil
}

// prepared is here, with the agents' executables found or built.
func prepared(ctx context.Context) (*cluster, error) {
	c, err := here()
	if err != nil {
		return nil, err
	}
	c.secrets = newSecrets()
	for name, path := range map[string]*string{"consul": &c.consulProgram, "nomad": &c.nomadProgram} {
		find := exec.CommandContext(ctx, filepath.Join(c.project, "internal", "tools", "agent"), name)
		find.Stderr = os.Stderr // it says that it builds
		out, err := find.Output()
		if err != nil {
			return nil, fmt.Errorf("find or build %s: %w", name, err)
		}
		*path = strings.TrimSpace(string(out))
	}
	return c, nil
}
