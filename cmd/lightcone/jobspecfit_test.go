package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"lightcone/functions"
	supervisor "lightcone/functions/runtime"
	"lightcone/gateway"
	"lightcone/jobs"
	"lightcone/scheduler"
	"lightcone/usage"
)

// fit says why the command that a task starts would not take its environment. It
// goes the way of the command itself, up to where it would start something.
func fit(task lightconeTask, environment map[string]string) error {
	command, rest, err := newRoot().Find(task.args)
	if err != nil || len(rest) > 0 || !command.Runnable() {
		return fmt.Errorf("`lightcone %s` is no command: %v", strings.Join(task.args, " "), err)
	}
	var entries []string
	for name, value := range environment {
		entries = append(entries, name+"="+value)
	}
	heed := func(command *cobra.Command) error { return heedEnvironment(command, entries) }
	switch command.CommandPath() {
	case "lightcone gateway":
		var flags gatewayFlags
		return gatewayTakes(&flags, heed(newGatewayCommand(&flags)))
	case "lightcone worker":
		var flags workerFlags
		return workerTakes(&flags, heed(newWorkerCommand(&flags)))
	case "lightcone scheduler":
		var flags schedulerFlags
		return schedulerTakes(&flags, heed(newSchedulerCommand(&flags)))
	case "lightcone identity":
		var flags identityFlags
		return identityTakes(&flags, heed(newIdentityCommand(&flags)))
	case "lightcone queue":
		var flags queueNodeFlags
		return queueTakes(&flags, heed(newQueueCommand(&flags)))
	case "lightcone bulk run":
		return bulkTakes(environment)
	}
	return fmt.Errorf("nobody has written down how `%s` is checked", command.CommandPath())
}

func gatewayTakes(flags *gatewayFlags, err error) error {
	if err != nil {
		return err
	}
	_, declared, err := flags.config()
	if err != nil {
		return err
	}
	if _, err := gateway.NewFleet(gateway.FleetConfig{Declared: declared, Registerer: prometheus.NewRegistry()}); err != nil {
		return err
	}
	if err := redisTakes(&flags.redis); err != nil {
		return err
	}
	if err := clientTakes(&flags.queue); err != nil {
		return err
	}
	if err := ledgerTakes(&flags.ledger); err != nil {
		return err
	}
	if !flags.callsBack {
		return fmt.Errorf("it refuses callbacks")
	}
	return serviceTakes(&flags.serviceFlags, flags.listen)
}

// ledgerTakes checks what all services that may keep a ledger have.
func ledgerTakes(flags *ledgerFlags) error {
	if err := flags.check(); err != nil || !flags.enabled() {
		return err
	}
	if !filepath.IsAbs(flags.dir) || flags.adopt != filepath.Dir(flags.dir) {
		return fmt.Errorf("the ledger's folder %q is none of those in the host's volume, %q", flags.dir, flags.adopt)
	}
	reader, err := usage.OpenReader(context.Background(), flags.bucket, nil)
	if err != nil {
		return err
	}
	return reader.Close()
}

// clientTakes checks what all clients of the queue have.
func clientTakes(flags *queueFlags) error {
	if !flags.enabled() {
		return fmt.Errorf("it knows no queue")
	}
	_, err := flags.config("test", slog.New(slog.DiscardHandler))
	return err
}

func queueTakes(flags *queueNodeFlags, err error) error {
	if err != nil {
		return err
	}
	if _, err := flags.config(slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if messenger, err := flags.messenger(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil || messenger == nil {
		return fmt.Errorf("it delivers no callbacks: %w", err)
	}
	if err := errors.Join(listensOnNode(flags.listen), listensOnNode(flags.routeListen), listensOnNode(flags.manage)); err != nil {
		return err
	}
	_, _, err = (&serviceFlags{operatorKeyFile: flags.operatorKeyFile}).keys()
	return err
}

func identityTakes(flags *identityFlags, err error) error {
	if err != nil {
		return err
	}
	if keys, err := callbackKeys(flags.callbackKeyFile); err != nil || keys == nil {
		return fmt.Errorf("it knows no tenant's secret: %w", err)
	}
	if err := redisTakes(&flags.redis); err != nil {
		return err
	}
	if err := listensOnNode(flags.manage); err != nil {
		return err
	}
	_, _, err = (&serviceFlags{operatorKeyFile: flags.operatorKeyFile}).keys()
	return err
}

// redisTakes checks what all services that know Redis have.
func redisTakes(flags *redisFlags) error {
	if flags.service == "" {
		return fmt.Errorf("it knows no Redis")
	}
	_, err := flags.config(slog.New(slog.DiscardHandler))
	return err
}

func workerTakes(flags *workerFlags, err error) error {
	if err != nil {
		return err
	}
	spec, err := functionFor(flags.function)
	if err != nil {
		return err
	}
	config := supervisor.Config{Functions: []functions.Spec{spec}, Slots: flags.slots, Dir: flags.sockets}
	if err := config.Validate(); err != nil {
		return err
	}
	if err := errors.Join(clientTakes(&flags.queue), redisTakes(&flags.redis), ledgerTakes(&flags.ledger)); err != nil {
		return err
	}
	return serviceTakes(&flags.serviceFlags, flags.listen)
}

func schedulerTakes(flags *schedulerFlags, err error) error {
	if err != nil {
		return err
	}
	policies, err := parsePolicies(flags.policies)
	if err != nil {
		return err
	}
	nomad, err := jobs.Connect(jobs.Config{Address: flags.nomad})
	if err != nil {
		return err
	}
	nomad.Close()
	_, err = scheduler.New(scheduler.Config{
		Policies: policies, Every: flags.every, Observer: newObserver(nil, "", "", policies), Scaler: &scaler{},
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	if flags.name == "" {
		return fmt.Errorf("the candidate has no name")
	}
	return serviceTakes(&flags.serviceFlags, flags.manage)
}

// serviceTakes checks what all services have. On a node, none may listen where its
// default is, nor take calls from whoever comes.
func serviceTakes(flags *serviceFlags, listen string) error {
	if err := errors.Join(listensOnNode(listen), listensOnNode(flags.manage)); err != nil {
		return err
	}
	fleet, _, err := flags.keys()
	if err == nil && fleet == "" {
		err = fmt.Errorf("it has no fleet key")
	}
	return err
}

func listensOnNode(address string) error {
	if host, port, err := net.SplitHostPort(address); err != nil || host != "192.0.2.7" || port != "23456" {
		return fmt.Errorf("it would listen on %s, and not where Nomad says", address)
	}
	return nil
}

func bulkTakes(environment map[string]string) error {
	known := []string{envBulkParams}
	for _, variables := range bulkSettings {
		known = append(known, variables...)
	}
	for name := range environment {
		if strings.HasPrefix(name, settingPrefix) && !slices.Contains(known, name) {
			return fmt.Errorf("the environment variable %s is not a setting of `lightcone bulk run`", name)
		}
	}
	var flags bulkFlags
	command := newBulkRunCommand(&flags)
	params, err := bulkSetup(command, &flags, func(name string) string { return environment[name] })
	if err == nil && params.Get("width") != "300" {
		err = fmt.Errorf("the dispatch's parameters arrive as %v", params)
	}
	return err
}
