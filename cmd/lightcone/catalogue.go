package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lightcone"
	"lightcone/functions"
)

const (
	mebibyte     = 1 << 20
	maxBodyBytes = 20 * mebibyte

	longestTimeout = time.Minute // the longest deadline that a caller may name
)

// catalogue is every function that `lightcone dev` runs: the two that come with
// it, and the user's own.
func catalogue(flags devFlags) ([]functions.Spec, error) {
	specs, err := builtIn()
	if err != nil {
		return nil, err
	}
	for _, own := range []struct {
		flag    string
		values  []string
		usePort bool
	}{{"--function", flags.own, false}, {"--port-function", flags.ownOnPort, true}} {
		for _, value := range own.values {
			spec, err := ownFunction(value)
			if err != nil {
				return nil, usagef("%s %s: %w", own.flag, value, err)
			}
			spec.UsePort = own.usePort
			specs = append(specs, spec)
		}
	}
	return specs, nil
}

// builtIn declares the functions that come with Lightcone.
func builtIn() ([]functions.Spec, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	resize := filepath.Join(filepath.Dir(self), "lightcone-resize")
	if _, err := os.Stat(resize); err != nil {
		return nil, fmt.Errorf("the resize function's executable belongs beside this one: %w; run `make build`", err)
	}
	return []functions.Spec{
		{
			Name: "resize", Command: []string{resize},
			// A slot is one core: Go's own threads need no second.
			Env: []string{"GOMAXPROCS=1"},
			// An image of 50 Mpixel, unfolded and encoded, fits with room to spare.
			MemoryBytes: 1536 * mebibyte, DefaultTimeout: 10 * time.Second, MaxTimeout: longestTimeout, MaxBodyBytes: maxBodyBytes,
			RecycleAfterCalls: 20_000, RecycleAboveBytes: 400 * mebibyte,
		},
		{
			Name: "echo", Command: []string{self, "function", "echo"},
			Env:         []string{"GOMAXPROCS=1"},
			MemoryBytes: 512 * mebibyte, DefaultTimeout: 10 * time.Second, MaxTimeout: longestTimeout, MaxBodyBytes: maxBodyBytes,
			RecycleAboveBytes: 200 * mebibyte,
		},
	}, nil
}

// ownFunction declares the user's own executable from NAME=PATH.
func ownFunction(value string) (functions.Spec, error) {
	name, path, both := strings.Cut(value, "=")
	if !both {
		return functions.Spec{}, fmt.Errorf("want NAME=PATH")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return functions.Spec{}, err
	}
	if _, err := os.Stat(path); err != nil {
		return functions.Spec{}, fmt.Errorf("the executable: %w", err)
	}
	spec := functions.Spec{
		Name: lightcone.FunctionName(name), Command: []string{path},
		MemoryBytes: 512 * mebibyte, DefaultTimeout: 10 * time.Second, MaxTimeout: longestTimeout, MaxBodyBytes: maxBodyBytes,
		RecycleAboveBytes: 256 * mebibyte,
	}
	return spec, spec.Validate()
}
