package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/client"
	"lightcone/cmd/internal/commandline"
)

// longestStandardInput bounds what is read from a pipe, which has no length to
// look at first. The front door's own limit is lower.
const longestStandardInput = 64 << 20

// callOne calls a function once and says on standard error what it cost.
func callOne(ctx context.Context, caller *client.Client, command *cobra.Command, function lightcone.FunctionName, params url.Values, flags callFlags) error {
	input, err := openInput(flags.in, command.InOrStdin())
	if err != nil {
		return err
	}
	keep, flush, err := outputOf(command, flags)
	if err != nil {
		return err
	}
	answer, err := caller.Call(ctx, function, params, input, keep)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted before the answer of %s was complete", function)
	}
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(command.ErrOrStderr(), callLine(answer))
	return err
}

// outputOf is what becomes of one answer's body by the flags: keep takes it, as often as
// it comes, and flush prints it if it is to be printed.
func outputOf(command *cobra.Command, flags callFlags) (keep func(client.Answer, io.Reader) error, flush func() error, err error) {
	outFolder, err := outputFolder(flags)
	if err != nil {
		return nil, nil, err
	}
	var standardOutput bytes.Buffer // printed once it is whole: a broken answer may be asked for again
	keep = func(answer client.Answer, body io.Reader) error {
		switch {
		case flags.out == "-":
			standardOutput.Reset()
			_, err := standardOutput.ReadFrom(body)
			return err
		case outFolder:
			name := filepath.Base(flags.in)
			return client.WriteFile(filepath.Join(flags.out, client.NamesFor([]string{name}).Output(name, answer.ContentType)), body)
		default:
			return client.WriteFile(flags.out, body)
		}
	}
	flush = func() error {
		if _, err := standardOutput.WriteTo(command.OutOrStdout()); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return nil
	}
	return keep, flush, nil
}

func openInput(in string, standardInput io.Reader) (client.Input, error) {
	if in != "-" {
		return client.FileInput(in)
	}
	data, err := io.ReadAll(io.LimitReader(standardInput, longestStandardInput+1))
	if err != nil {
		return client.Input{}, fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > longestStandardInput {
		return client.Input{}, fmt.Errorf("standard input is longer than %s, which is more than any function takes", client.Size(longestStandardInput))
	}
	return client.BytesInput(data), nil
}

// outputFolder says whether the one output goes into a folder, under the
// input's name.
func outputFolder(flags callFlags) (bool, error) {
	info, err := os.Stat(flags.out)
	if flags.out == "-" || err != nil || !info.IsDir() {
		return false, nil
	}
	if flags.in == "-" {
		return false, commandline.Usagef("--out %s is a folder, and standard input has no name: name a file", flags.out)
	}
	return true, nil
}

// callLine is what one call was and cost, in a line, without what is not known.
func callLine(answer client.Answer) string {
	size := client.Size(answer.BytesOut) + " out"
	if answer.BytesIn > 0 {
		size = client.Size(answer.BytesIn) + " in, " + size
	}
	parts := []string{strings.TrimSpace(fmt.Sprintf("%d %s", answer.Status, answer.ContentType)), size}
	if answer.Queue > 0 || answer.Exec > 0 || answer.CPU > 0 {
		parts = append(parts, fmt.Sprintf("queue %s, exec %s, cpu %s", client.Milliseconds(answer.Queue), client.Milliseconds(answer.Exec), client.Milliseconds(answer.CPU)))
	}
	if answer.Took > 0 {
		parts = append(parts, "took "+client.Milliseconds(answer.Took))
	}
	if answer.Attempts > 1 {
		parts = append(parts, fmt.Sprintf("%d attempts", answer.Attempts))
	}
	if answer.CallID != "" {
		parts = append(parts, "call "+answer.CallID)
	}
	return strings.Join(parts, " · ")
}
