package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// release is a .tar.gz of Lightcone's executables, as hosts fetch it.
type release struct{ url, sha256 string }

var releaseFolder = filepath.Join(agentsFolder, "release")

// publish puts a copy of an archive where the release server finds it, under a
// name made of its own and its content: two builds can be there at once.
func publish(archive string) (release, error) {
	source, err := os.Open(archive)
	if err != nil {
		return release{}, fmt.Errorf("what hosts fetch: %w; `make release agents` makes it", err)
	}
	defer source.Close()
	copied, err := os.CreateTemp(releaseFolder, "copying-*")
	if err != nil {
		return release{}, err
	}
	defer os.Remove(copied.Name()) // gone already when all went well
	digest := sha256.New()
	_, err = io.Copy(io.MultiWriter(copied, digest), source)
	if closed := copied.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return release{}, fmt.Errorf("copy the release: %w", err)
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz") + "-" + sum[:12] + ".tar.gz"
	return release{url: "http://" + releaseAddress + "/" + name, sha256: sum},
		os.Rename(copied.Name(), filepath.Join(releaseFolder, name))
}

// serveReleases serves the releases to the racks until it is killed.
func serveReleases() error {
	listener, err := net.Listen("tcp", releaseAddress)
	if err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	routes.Handle("GET /", http.FileServer(http.Dir(releaseFolder)))
	server := &http.Server{Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	return server.Serve(listener)
}
