package main

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

//go:embed templates/*.hcl
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*.hcl"))

// cluster is the region on this machine, as its folders describe it.
type cluster struct {
	project string // absolute; where Terraform and the job specifications are
	folder  string // absolute; keys, Terraform's state, photographs: what people look at

	consulProgram, nomadProgram string

	secrets   secrets
	processes []process
}

// The APIs and web UIs of the two agents, and of the release.
const (
	consulURL = "http://127.0.0.1:8500"
	nomadURL  = "http://127.0.0.1:4646"

	releaseAddress = serverAddress + ":8099"
)

// agent is what an agent's configuration is made of.
type agent struct {
	Host          host
	Server        bool
	Folder        string
	Datacenter    string
	ServerAddress string
	Interface     string
	CPU, Memory   int // what jobs may ask of the host, in MHz and MB
	Photographs   string
	Usage, Store  string
	Secrets       secrets
}

// Each rack's host offers this much to jobs; all of it fits 8 GiB because few
// tasks use what they may.
const (
	rackCPU    = 8000
	rackMemory = 4096
	edgeCPU    = 2000
	edgeMemory = 1024
)

// configure writes an agent's configuration and returns its path.
func (c *cluster) configure(name, kind string, h host, server bool) (string, error) {
	a := agent{
		Host: h, Server: server, Folder: h.folder(), Datacenter: datacenter, ServerAddress: serverAddress,
		Interface: "eth0", CPU: rackCPU, Memory: rackMemory, Photographs: c.photographs(), Usage: c.usage(h), Store: c.store(), Secrets: c.secrets,
	}
	if h.Rack == "" {
		a.Interface, a.CPU, a.Memory = bridge, edgeCPU, edgeMemory
	}
	path := configOf(name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // it holds tokens
	if err != nil {
		return "", err
	}
	if err := templates.ExecuteTemplate(file, kind+".hcl", a); err != nil {
		file.Close()
		return "", err
	}
	return path, file.Close()
}

// configOf is the configuration of an agent.
func configOf(name string) string { return filepath.Join(agentsFolder, "config", name+".hcl") }

func (c *cluster) photographs() string { return filepath.Join(c.folder, "photographs") }

// usage is where usage records wait on a host for the bucket, and store is the S3
// store's folder. Both stay when the cluster goes: the next one brings the records there.
func (c *cluster) usage(h host) string { return filepath.Join(c.folder, "usage", h.Name) }
func (c *cluster) store() string       { return filepath.Join(c.folder, "store") }

// The names under which agents are started.
func consulOn(h host) string { return "consul-" + h.Name }
func nomadOn(h host) string  { return "nomad-" + h.Name }

const (
	nomadServer = "nomad-server"
	releases    = "release"
)

// startConsul starts Consul on a host: the server on the one outside the racks.
func (c *cluster) startConsul(h host) error {
	path, err := c.configure(consulOn(h), "consul", h, h.Rack == "")
	if err != nil {
		return err
	}
	return c.start(consulOn(h), h, c.consulProgram, "agent", "-config-file="+path)
}

// startNomadServer starts the Nomad server, outside the racks.
func (c *cluster) startNomadServer() error {
	path, err := c.configure(nomadServer, "nomad", edge(), true)
	if err != nil {
		return err
	}
	return c.start(nomadServer, edge(), c.nomadProgram, "agent", "-config="+path)
}

// startNomad starts a Nomad client on a host.
func (c *cluster) startNomad(h host) error {
	path, err := c.configure(nomadOn(h), "nomad", h, false)
	if err != nil {
		return err
	}
	return c.start(nomadOn(h), h, c.nomadProgram, "agent", "-config="+path)
}

// answers says whether a GET of url is answered 200, within a second.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// awaitAnswer waits until url is answered, and says what was waited for if not.
func (c *cluster) awaitAnswer(ctx context.Context, name, url string) error {
	if err := waitUntil(ctx, 30*time.Second, func() bool { return answers(ctx, url) }); err != nil {
		return fmt.Errorf("%s does not answer at %s: %w; its log is %s", name, url, err, logOf(name))
	}
	return nil
}
