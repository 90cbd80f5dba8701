package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/client"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
)

// callFlags is the command line of `lightcone call`.
type callFlags struct {
	callerFlags
	asyncFlags
	params       []string
	in, out      string
	timeout      time.Duration
	parallel     int
	skipExisting bool
}

const (
	envKey         = "LIGHTCONE_KEY"
	defaultKeyFile = "lightcone-data/demo.key" // where `make run` leaves it
	mostParallel   = 1024
	// singleAttempts keeps a person who waits for one answer from waiting long
	// for none: about a second in all. A folder's job is more patient.
	singleAttempts = 4
)

func newCallCommand() *cobra.Command {
	var flags callFlags
	command := &cobra.Command{
		Use:   "call NAME",
		Short: "Call a function on a file, on standard input or on every file in a folder",
		Long: `Call a function on a file, on standard input or on every file in a folder.

A folder is worked through at any depth, and the output folder mirrors its
names, with the extension that fits what came back. Ctrl-C stops after what is
under way; --skip-existing carries on from there.

With --async, calls are queued: what has been accepted is run, also when this
command, the network or Lightcone itself is interrupted. The same command carries
on: calls are known by their content, and none is run twice within 24 hours.
"lightcone invocation" watches, fetches and cancels them one by one.

The key is taken from --key, else --key-file, else $LIGHTCONE_KEY, else
` + defaultKeyFile + `.`,
		Example: `  lightcone call resize --param width=300 --in photo.jpg --out small.jpg
  lightcone call resize --param width=300 --param format=webp --in photos --out small
  lightcone call resize --async --param width=300 --in photos --out small
  lightcone call echo < question > answer`,
		Args: commandline.Takes("NAME"),
		RunE: func(command *cobra.Command, args []string) error {
			ctx, release := run.UntilSignal(command.Context())
			defer release()
			return call(ctx, command, lightcone.FunctionName(args[0]), flags)
		},
	}
	set := command.Flags()
	set.StringArrayVarP(&flags.params, "param", "p", nil, "a parameter of the function, as name=value; may be repeated")
	set.StringVarP(&flags.in, "in", "i", "-", "the input: a file, a folder, or - for standard input")
	set.StringVarP(&flags.out, "out", "o", "-", "the output: a file, a folder, or - for standard output")
	flags.callerFlags.register(set)
	flags.asyncFlags.register(command)
	set.DurationVar(&flags.timeout, "timeout", 0, "how long one attempt may take, such as 10s (default: what the function allows)")
	set.IntVar(&flags.parallel, "parallel", 4, "how many files of a folder are worked on at a time")
	set.BoolVar(&flags.skipExisting, "skip-existing", false, "leave out files of a folder that have an output already")
	return command
}

// call checks the command line as a whole and does what it says.
func call(ctx context.Context, command *cobra.Command, function lightcone.FunctionName, flags callFlags) error {
	if err := function.Validate(); err != nil {
		return commandline.Usagef("%w", err)
	}
	params, err := parseParams(flags.params)
	if err != nil {
		return err
	}
	if flags.parallel < 1 || flags.parallel > mostParallel {
		return commandline.Usagef("--parallel %d: want 1 to %d", flags.parallel, mostParallel)
	}
	if flags.timeout < 0 {
		return commandline.Usagef("--timeout %v: want more than 0", flags.timeout)
	}
	if err := flags.check(command, flags.skipExisting); err != nil {
		return err
	}
	folder, err := isFolder(flags.in)
	if err != nil {
		return err
	}
	if folder && flags.out == "-" && !flags.detach {
		return commandline.Usagef("--in %s is a folder: name the folder for the outputs with --out", flags.in)
	}
	key, err := findKey(flags.callerFlags, os.Getenv(envKey), os.ReadFile)
	if err != nil {
		return err
	}
	policy := client.DefaultPolicy
	if !folder {
		policy.Attempts = singleAttempts
	}
	caller, err := client.New(client.Options{API: flags.api, Key: key, Timeout: flags.timeout, Parallel: flags.parallel, Policy: policy})
	if err != nil {
		return commandline.Usagef("--api: %w", err)
	}
	defer caller.Close()

	job := client.Job{
		Function: function, Params: params, In: flags.in, Out: flags.out,
		Parallel: flags.parallel, SkipExisting: flags.skipExisting,
	}
	switch {
	case folder && flags.detach:
		job.Out = ""
		return queueFolder(ctx, caller, command, job, flags.asyncFlags)
	case folder && flags.async:
		return queueFolder(ctx, caller, command, job, flags.asyncFlags)
	case folder:
		return callFolder(ctx, caller, command.ErrOrStderr(), job)
	case flags.async:
		return queueOne(ctx, caller, command, function, params, flags)
	}
	return callOne(ctx, caller, command, function, params, flags)
}

// parseParams reads name=value pairs. A name given twice is sent twice: whether
// that makes sense is the function's to say.
func parseParams(pairs []string) (url.Values, error) {
	params := make(url.Values)
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, commandline.Usagef("--param %q: want name=value, such as width=300", pair)
		}
		params.Add(name, value)
	}
	return params, nil
}

// isFolder says whether the input is a folder; its error is about an input that
// is not there.
func isFolder(in string) (bool, error) {
	if in == "-" {
		return false, nil
	}
	info, err := os.Stat(in)
	if err != nil {
		return false, fmt.Errorf("the input: %w", err)
	}
	return info.IsDir(), nil
}

// findKey picks the API key: what was said on the command line before the
// environment, and that before the file that `make run` leaves.
func findKey(flags callerFlags, fromEnvironment string, read func(string) ([]byte, error)) (string, error) {
	if flags.key != "" && flags.keyFile != "" {
		return "", commandline.Usagef("--key and --key-file are both given: leave one out")
	}
	if flags.key != "" {
		return flags.key, nil
	}
	if flags.keyFile == "" && fromEnvironment != "" {
		return fromEnvironment, nil
	}
	name := flags.keyFile
	if name == "" {
		name = defaultKeyFile
	}
	content, err := read(name)
	if flags.keyFile == "" && errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no API key: %s does not exist here; give one with --key-file or $%s", name, envKey)
	}
	if err != nil {
		return "", fmt.Errorf("the API key: %w", err)
	}
	key, _, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	if key = strings.TrimSpace(key); key == "" {
		return "", fmt.Errorf("the API key: %s is empty", name)
	}
	return key, nil
}
