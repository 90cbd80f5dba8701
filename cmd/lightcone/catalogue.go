package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lightcone"
	"lightcone/cmd/internal/commandline"
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
				return nil, commandline.Usagef("%s %s: %w", own.flag, value, err)
			}
			if slices.ContainsFunc(specs, func(other functions.Spec) bool { return other.Name == spec.Name }) {
				return nil, commandline.Usagef("%s %s: there is a function %s already, of another flag or of Lightcone's own; choose another name", own.flag, value, spec.Name)
			}
			spec.UsePort = own.usePort
			specs = append(specs, spec)
		}
	}
	return specs, nil
}

// checkSlots checks the flag --slots of whatever runs functions.
func checkSlots(slots int) error {
	if slots < 1 || slots > mostParallel {
		return commandline.Usagef("--slots %d: want 1 to %d", slots, mostParallel)
	}
	return nil
}

// The limits of the functions that come with Lightcone, and of any other.
var (
	resizeLimits = functions.Spec{
		Name: "resize",
		// A slot is one core: Go's own threads need no second.
		Env: []string{"GOMAXPROCS=1"},
		// An image of 50 Mpixel, unfolded and encoded, fits with room to spare.
		MemoryBytes: 1536 * mebibyte, DefaultTimeout: 10 * time.Second, MaxTimeout: longestTimeout, MaxBodyBytes: maxBodyBytes,
		RecycleAfterCalls: 20_000, RecycleAboveBytes: 400 * mebibyte,
	}
	echoLimits = functions.Spec{
		Name:        "echo",
		Env:         []string{"GOMAXPROCS=1"},
		MemoryBytes: 512 * mebibyte, DefaultTimeout: 10 * time.Second, MaxTimeout: longestTimeout, MaxBodyBytes: maxBodyBytes,
		RecycleAboveBytes: 200 * mebibyte,
	}
	ownLimits = functions.Spec{
		MemoryBytes: 512 * mebibyte, DefaultTimeout: 10 * time.Second, MaxTimeout: longestTimeout, MaxBodyBytes: maxBodyBytes,
		RecycleAboveBytes: 256 * mebibyte,
	}
)

// limitsOf is what a function of that name may use, without its command.
func limitsOf(name lightcone.FunctionName) functions.Spec {
	switch name {
	case resizeLimits.Name:
		return resizeLimits
	case echoLimits.Name:
		return echoLimits
	}
	limits := ownLimits
	limits.Name = name
	return limits
}

// builtIn declares the functions that come with Lightcone.
func builtIn() ([]functions.Spec, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	executable := filepath.Join(filepath.Dir(self), "lightcone-resize")
	if _, err := os.Stat(executable); err != nil {
		return nil, fmt.Errorf("the resize function's executable belongs beside this one: %w; run `make build`", err)
	}
	resize, echo := resizeLimits, echoLimits
	resize.Command = []string{executable}
	echo.Command = []string{self, "function", "echo"}
	return []functions.Spec{resize, echo}, nil
}

// functionFor declares the function that value names: one that comes with
// Lightcone, or NAME=PATH.
func functionFor(value string) (functions.Spec, error) {
	if strings.Contains(value, "=") {
		return ownFunction(value)
	}
	specs, err := builtIn()
	if err != nil {
		return functions.Spec{}, err
	}
	for _, spec := range specs {
		if string(spec.Name) == value {
			return spec, nil
		}
	}
	return functions.Spec{}, fmt.Errorf("no function of this name comes with Lightcone; want resize, echo, or NAME=PATH of an executable of your own")
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
	spec := limitsOf(lightcone.FunctionName(name))
	spec.Command = []string{path}
	return spec, spec.Validate()
}
