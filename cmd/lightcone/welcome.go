package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"lightcone/client"
	supervisor "lightcone/functions/runtime"
	"lightcone/identity"
)

// sampleOutput is where the demonstration leaves its result, in the data folder.
const sampleOutput = "sample.jpg"

// welcome says what is running and where, shows it at work on the sample, and
// ends with a command to paste.
func welcome(ctx context.Context, out io.Writer, flags devFlags, worker *supervisor.Supervisor, demo identity.Key) error {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	say("Lightcone is up.")
	say("  front door   http://%s", flags.api)
	say("  management   http://%s   (key: %s)", flags.manage, filepath.Join(flags.data, "operator.key"))
	for _, status := range worker.Status() {
		if status.Processes == 0 {
			say("  %-12s does not start", status.Function)
			continue
		}
		say("  %-12s %d slots and a spare; isolation %s", status.Function, status.Slots, status.Isolation)
	}
	sample, result := flags.sample, filepath.Join(flags.data, sampleOutput)
	if sample == "" {
		sample, result = "photo.jpg", "small.jpg"
	} else if err := demonstrate(ctx, say, flags, sample, result, demo); err != nil {
		return err
	}
	say("\nTry it:")
	say("  curl -sS -f -H \"Authorization: Bearer $(cat %s)\" -H 'Content-Type: image/jpeg' --data-binary @%s -o %s 'http://%s/function/resize?width=300'",
		filepath.Join(flags.data, "demo.key"), sample, result, flags.api)
	return nil
}

// demonstrate resizes the sample through the front door, twice: the second call
// shows the usual cost, the first one also warms caches.
func demonstrate(ctx context.Context, say func(string, ...any), flags devFlags, sample, result string, demo identity.Key) error {
	caller, err := client.New(client.Options{
		API: "http://" + flags.api, Key: demo.Text(), Timeout: 10 * time.Second, Policy: client.DefaultPolicy,
	})
	if err != nil {
		return err
	}
	defer caller.Close()
	input, err := client.FileInput(sample)
	if err != nil {
		return fmt.Errorf("the sample: %w", err)
	}
	var answer client.Answer
	for range 2 {
		answer, err = caller.Call(ctx, "resize", url.Values{"width": {"300"}}, input, func(_ client.Answer, body io.Reader) error {
			return client.WriteFile(result, body)
		})
		if err != nil {
			return fmt.Errorf("resize the sample: %w", err)
		}
	}
	if _, err := os.Stat(result); err != nil {
		return fmt.Errorf("resize the sample: %w", err)
	}
	say("\nResized %s (%s) to 300 pixels wide: %s, %s.", sample, client.Size(answer.BytesIn), result, client.Size(answer.BytesOut))
	say("It cost %s of CPU time, %s in and %s out; it took %s here, %s of that in the queue.",
		client.Milliseconds(answer.CPU), client.Size(answer.BytesIn), client.Size(answer.BytesOut),
		client.Milliseconds(answer.Took), client.Milliseconds(answer.Queue))
	return nil
}
