package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/capacity"
	"lightcone/client"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
)

// planFlags is the command line of `lightcone plan`.
type planFlags struct {
	demand   capacity.Demand
	json     bool
	measure  string // the address of a running Lightcone
	in       string
	function string
	params   []string
	keyFile  string
	calls    int
}

// mostMeasured bounds how many calls a measurement may take.
const mostMeasured = 10_000

func newPlanCommand() *cobra.Command {
	flags := planFlags{demand: capacity.Example()}
	command := &cobra.Command{
		Use:   "plan",
		Short: "Say how many servers and gateways a rate of calls needs, and what that costs",
		Long: `Say how many servers and gateways a rate of calls needs, and what that costs.

  cores   = rate x CPU per call
  servers = ceil(cores / cores per server x (1 + headroom)), in whole racks

More servers are counted where their memory or network would not suffice, and
the output says which number decided. The CPU time of a call is given with
--cpu-ms, or measured with --measure on a running Lightcone. Prices are examples
until you give your own; KB, MB and GB are decimal, a month has 730 hours.`,
		Example: `  lightcone plan --rate 10000 --cpu-ms 100 --cores-per-server 32 --headroom 0.2 --racks 4
  lightcone plan --rate 10000 --measure http://127.0.0.1:8080 --in photo.jpg --param width=300
  lightcone plan --rate 10000 --cpu-ms 10 --json`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, release := run.UntilSignal(command.Context())
			defer release()
			return plan(ctx, command, flags)
		},
	}
	set, d := command.Flags(), &flags.demand
	set.Float64Var(&d.CallsPerSecond, "rate", d.CallsPerSecond, "calls per second")
	set.Float64Var(&d.CPUMillis, "cpu-ms", 0, "CPU time per call in milliseconds (this or --measure)")
	set.IntVar(&d.CoresPerServer, "cores-per-server", d.CoresPerServer, "cores of a worker's server")
	set.Float64Var(&d.Headroom, "headroom", d.Headroom, "what to keep free, as a fraction of the demand")
	set.IntVar(&d.Racks, "racks", d.Racks, "racks, or zones: what fails apart")
	set.Float64Var(&d.BodyInKB, "body-in", d.BodyInKB, "a call's body in KB")
	set.Float64Var(&d.BodyOutKB, "body-out", d.BodyOutKB, "an answer's body in KB")
	set.Float64Var(&d.SlotMemoryMB, "slot-memory", d.SlotMemoryMB, "memory of one process of the function in MB")
	set.Float64Var(&d.ServerMemoryMB, "server-memory", 0, "memory of a server in MB (0: as much as the slots need)")
	set.Float64Var(&d.NetworkGbps, "network", d.NetworkGbps, "link of a server or gateway in Gbit/s")
	set.Float64Var(&d.GatewayCPUMillis, "gateway-cpu-ms", d.GatewayCPUMillis, "CPU time per call in the gateway in milliseconds, measured by make bench")
	set.IntVar(&d.GatewayCores, "gateway-cores", d.GatewayCores, "cores of a gateway")
	set.Float64Var(&d.QueueShare, "queue-share", 0, "fraction of the calls that go through the queue")
	set.IntVar(&d.QueueReplicas, "queue-replicas", d.QueueReplicas, "nodes that store each queued call")
	set.Float64Var(&d.PricePerCoreHour, "price-core-hour", d.PricePerCoreHour, "price of a core for an hour (the default is an example)")
	set.Float64Var(&d.PricePerServerMonth, "price-server-month", 0, "price of a server for a month, instead of by the core")
	set.Float64Var(&d.PricePerGB, "price-gb", d.PricePerGB, "price of a GB that leaves the region (the default is an example)")
	set.BoolVar(&flags.json, "json", false, "print JSON: the demand, and its sizing")
	set.StringVar(&flags.measure, "measure", "", "measure the CPU time per call, and the bodies, on the Lightcone at this address")
	set.StringVarP(&flags.in, "in", "i", "", "with --measure: the file to send")
	set.StringVar(&flags.function, "function", "resize", "with --measure: the function to call")
	set.StringArrayVarP(&flags.params, "param", "p", nil, "with --measure: a parameter of the function, as name=value; may be repeated")
	set.StringVar(&flags.keyFile, "key-file", "", "with --measure: a file with the API key in its first line")
	set.IntVar(&flags.calls, "calls", 15, "with --measure: how many calls to take the median of")
	return command
}

func plan(ctx context.Context, command *cobra.Command, flags planFlags) error {
	given := command.Flags().Changed
	switch {
	case flags.measure != "" && given("cpu-ms"):
		return commandline.Usagef("--cpu-ms and --measure are both given: leave one out")
	case flags.measure == "" && !given("cpu-ms"):
		return commandline.Usagef("the CPU time per call is missing: give --cpu-ms, or --measure to find it out")
	case flags.measure != "" && flags.in == "":
		return commandline.Usagef("--measure needs --in: a file to call the function on")
	case flags.calls < 1 || flags.calls > mostMeasured:
		return commandline.Usagef("--calls %d: want 1 to %d", flags.calls, mostMeasured)
	}
	if flags.measure != "" {
		measured, err := measureCall(ctx, flags)
		if err != nil {
			return err
		}
		flags.demand.CPUMillis = float64(measured.CPU) / float64(time.Millisecond)
		if !given("body-in") {
			flags.demand.BodyInKB = float64(measured.BytesIn) / 1000
		}
		if !given("body-out") {
			flags.demand.BodyOutKB = float64(measured.BytesOut) / 1000
		}
	}
	sizing, err := capacity.Plan(flags.demand)
	if err != nil {
		return commandline.Usagef("%w", err)
	}
	if flags.json {
		encoder := json.NewEncoder(command.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Demand capacity.Demand `json:"demand"`
			Sizing capacity.Sizing `json:"sizing"`
		}{flags.demand, sizing})
	}
	_, err = io.WriteString(command.OutOrStdout(), planPage(flags.demand, sizing, flags.measure != ""))
	return err
}

// measureCall calls the function one call at a time and gives the answer whose
// CPU time is the median. A first call warms caches and is not counted.
func measureCall(ctx context.Context, flags planFlags) (client.Answer, error) {
	params, err := parseParams(flags.params)
	if err != nil {
		return client.Answer{}, err
	}
	key, err := findKey(callerFlags{keyFile: flags.keyFile}, os.Getenv(envKey), os.ReadFile)
	if err != nil {
		return client.Answer{}, err
	}
	input, err := client.FileInput(flags.in)
	if err != nil {
		return client.Answer{}, fmt.Errorf("the input: %w", err)
	}
	caller, err := client.New(client.Options{API: flags.measure, Key: key})
	if err != nil {
		return client.Answer{}, commandline.Usagef("--measure: %w", err)
	}
	defer caller.Close()
	var answers []client.Answer
	for range flags.calls + 1 {
		answer, err := caller.Call(ctx, lightcone.FunctionName(flags.function), params, input, func(_ client.Answer, body io.Reader) error {
			_, err := io.Copy(io.Discard, body)
			return err
		})
		if err != nil {
			return client.Answer{}, fmt.Errorf("measure %s: %w", flags.function, err)
		}
		if answer.CPU == 0 {
			return client.Answer{}, errors.New("the answers do not say what they cost (Server-Timing has no cpu): is it a Lightcone? Give --cpu-ms instead")
		}
		answers = append(answers, answer)
	}
	return medianByCPU(answers[1:]), nil
}

// medianByCPU is the middle answer; of an even number, the dearer of the two.
func medianByCPU(answers []client.Answer) client.Answer {
	slices.SortFunc(answers, func(a, b client.Answer) int { return int(a.CPU - b.CPU) })
	return answers[len(answers)/2]
}

// planPage is the plan for people.
func planPage(d capacity.Demand, s capacity.Sizing, measured bool) string {
	var page strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&page, "  %-14s "+format+"\n", append([]any{name}, args...)...)
	}
	source := ""
	if measured {
		source = " (measured)"
	}
	fmt.Fprintf(&page, "%s calls/s × %.4g ms of CPU%s = %s cores\n\n", grouped(d.CallsPerSecond), d.CPUMillis, source, grouped(s.Cores))
	row("servers", "%s of %d cores, %d in each of %d racks", grouped(float64(s.Servers)), d.CoresPerServer, s.Servers/d.Racks, d.Racks)
	row("", "%s", s.Because)
	row("workers", "%s, one a server, each with %d slots and a spare", grouped(float64(s.Workers)), s.SlotsPerWorker)
	row("slots", "%s: calls that run at a time", grouped(float64(s.Slots)))
	row("memory", "%s a server: %d processes of %s", megabytes(s.MemoryPerServerMB), s.SlotsPerWorker+1, megabytes(d.SlotMemoryMB))
	row("gateways", "%d of %d cores, %d in each rack", s.Gateways, d.GatewayCores, s.Gateways/d.Racks)
	row("network", "%.3g Gbit/s in and %.3g out; %.3g and %.3g at each gateway", s.NetworkInGbps, s.NetworkOutGbps, s.GatewayInGbps, s.GatewayOutGbps)
	if d.QueueShare > 0 {
		row("queue", "%s MB/s on its disks: %.4g %% of the calls, %d replicas", grouped(s.QueueMBps), 100*d.QueueShare, d.QueueReplicas)
	}
	row("a rack lost", "%s", rackLostLine(d, s))
	row("price", "%s a month, %.2f for a million calls", grouped(s.MonthlyPrice), s.PricePerMillion)
	return page.String()
}

func rackLostLine(d capacity.Demand, s capacity.Sizing) string {
	switch {
	case d.Racks == 1:
		return "stops everything: there is only one"
	case s.SurvivesRackLoss:
		return fmt.Sprintf("leaves room for %.0f %% of the rate: all of it", 100*s.RackLost)
	default:
		return fmt.Sprintf("leaves room for %.1f %% of the rate: not all of it; --headroom %.2f would", 100*s.RackLost, neededHeadroom(d))
	}
}

// neededHeadroom is the least headroom, in hundredths, with which the fleet
// carries the whole rate without one of its racks: at most 1/(racks-1), because
// servers and gateways come in whole racks.
func neededHeadroom(d capacity.Demand) float64 {
	for hundredths := 1; hundredths < 100; hundredths++ {
		d.Headroom = float64(hundredths) / 100
		if s, err := capacity.Plan(d); err == nil && s.SurvivesRackLoss {
			return d.Headroom
		}
	}
	return 1 / float64(d.Racks-1)
}

func megabytes(mb float64) string {
	if mb >= 1000 {
		return fmt.Sprintf("%.3g GB", mb/1000)
	}
	return fmt.Sprintf("%.3g MB", mb)
}

// grouped writes a number's thousands apart, and a small one's first digits.
func grouped(x float64) string {
	if x < 1000 {
		return fmt.Sprintf("%.4g", x)
	}
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
