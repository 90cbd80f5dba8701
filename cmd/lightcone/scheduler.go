package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/internal/run"
	"lightcone/jobs"
	"lightcone/scheduler"
)

// schedulerFlags are the flags of `lightcone scheduler`.
type schedulerFlags struct {
	serviceFlags
	name, nomad, policies string
	every, sessionTTL     time.Duration
}

func newSchedulerCommand(flags *schedulerFlags) *cobra.Command {
	command := serviceCommand("scheduler", "Set how many workers each function has, while elected leader",
		`Watch how busy the workers are and tell Nomad how many there should be. Several
may run: they elect a leader in Consul, and only the leader acts. Nomad starts
them (jobs/scheduler.nomad.hcl).

The policies are a JSON list with an object for each function:
  function                  the function's name; its Nomad job is worker-NAME
  floor, ceiling            workers, at least and at most; a floor of 0 may go to zero
  slots_per_worker          calls that one worker runs at once
  headroom                  room above demand, as a share of it
  backlog_age               how old the oldest queued call may get; 0s = its age does not count
  stable_window, panic_window, up_cool_down, down_cool_down, zero_after
                            Go durations, as backlog_age is; what is left out has a sensible default`,
		func(command *cobra.Command) error { return schedule(command, *flags) })
	f := command.Flags()
	flags.serviceFlags.register(f)
	host, _ := os.Hostname() // a name for people: an empty one will do
	f.StringVar(&flags.name, "name", host, "`name` of this candidate, for people who look at the election")
	f.StringVar(&flags.policies, "policies", "", "the policies, as `JSON`")
	f.StringVar(&flags.nomad, "nomad", "", "Nomad's `address`; by default as Nomad's own commands find it")
	f.DurationVar(&flags.every, "every", scheduler.DefaultEvery, "between two decisions")
	f.DurationVar(&flags.sessionTTL, "session-ttl", 10*time.Second, "how long a silent leader stays elected at least; Consul wants 10s or more")
	return command
}

// policyDocument is one entry of --policies. What it leaves out keeps its default.
type policyDocument struct {
	Function       lightcone.FunctionName `json:"function"`
	Floor          *int                   `json:"floor"`
	Ceiling        *int                   `json:"ceiling"`
	SlotsPerWorker *int                   `json:"slots_per_worker"`
	Headroom       *float64               `json:"headroom"`
	StableWindow   *duration              `json:"stable_window"`
	PanicWindow    *duration              `json:"panic_window"`
	UpCoolDown     *duration              `json:"up_cool_down"`
	DownCoolDown   *duration              `json:"down_cool_down"`
	ZeroAfter      *duration              `json:"zero_after"`
	BacklogAge     *duration              `json:"backlog_age"`
}

// duration is a Go duration in JSON: "30s".
type duration time.Duration

// UnmarshalText reads what time.ParseDuration does.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

func (d policyDocument) policy() scheduler.Policy {
	job := workerService(d.Function)
	p := scheduler.DefaultPolicy(d.Function, job, workerGroup)
	set(&p.Floor, d.Floor)
	set(&p.Ceiling, d.Ceiling)
	set(&p.SlotsPerWorker, d.SlotsPerWorker)
	set(&p.Headroom, d.Headroom)
	set(&p.StableWindow, (*time.Duration)(d.StableWindow))
	set(&p.PanicWindow, (*time.Duration)(d.PanicWindow))
	set(&p.UpCoolDown, (*time.Duration)(d.UpCoolDown))
	set(&p.DownCoolDown, (*time.Duration)(d.DownCoolDown))
	set(&p.ZeroAfter, (*time.Duration)(d.ZeroAfter))
	set(&p.BacklogAge, (*time.Duration)(d.BacklogAge))
	return p
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// parsePolicies reads --policies; an unknown field is an error.
func parsePolicies(text string) ([]scheduler.Policy, error) {
	var documents []policyDocument
	if err := decodeStrictly(text, &documents); err != nil {
		return nil, err
	}
	if len(documents) == 0 {
		return nil, errors.New("no function is named")
	}
	var policies []scheduler.Policy
	for _, d := range documents {
		p := d.policy()
		if err := p.Validate(); err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	return policies, nil
}

func schedule(command *cobra.Command, flags schedulerFlags) error {
	logger := flags.logger(command)
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	if err := required(command, "policies"); err != nil {
		return err
	}
	policies, err := parsePolicies(flags.policies)
	if err != nil {
		return commandline.Usagef("--policies: %w", err)
	}
	fleetKey, operator, err := flags.keys()
	if err != nil {
		return err
	}
	catalogue, err := consul.Connect(consul.Config{Logger: logger})
	if err != nil {
		return err
	}
	defer catalogue.Close()
	nomad, err := jobs.Connect(jobs.Config{Address: flags.nomad})
	if err != nil {
		return err
	}
	defer nomad.Close()
	registry := newRegistry()
	watched := newObserver(catalogue, fleetKey, operator.Text(), policies)
	deciding, err := scheduler.New(scheduler.Config{
		Policies: policies, Every: flags.every, Observer: watched, Scaler: &scaler{nomad: nomad, policies: policies},
		Logger: logger, Registerer: registry,
	})
	if err != nil {
		return err
	}

	readable := &nomadCheck{nomad: nomad, job: policies[0].Job}
	group := run.New(logger)
	_ = group.Start(ctx, "observer", func(context.Context) (run.Stop, error) { return watched.start(logger), nil })
	_ = group.Start(ctx, "management", func(context.Context) (run.Stop, error) {
		return serveManagement(group, flags.manage, managementListener{
			operator: operator, metrics: registry,
			ready: func() (any, error) { return deciding.Status(), errors.Join(watched.heard(), readable.check()) },
			operate: map[string]func(http.ResponseWriter){
				"GET /status": func(w http.ResponseWriter) { writeJSON(w, http.StatusOK, deciding.Status()) },
			},
		})
	})
	_ = group.Start(ctx, "election", func(context.Context) (run.Stop, error) {
		election := consul.NewElection(catalogue, consul.ElectionConfig{
			Key: electionKey, Name: flags.name, TTL: flags.sessionTTL, Logger: logger,
		})
		return stand(group, election, deciding), nil
	})
	return group.Wait(ctx)
}

// electionKey is the office of the scheduler, in Consul's KV.
const electionKey = "lightcone/scheduler/leader"

// stand lets deciding lead whenever it is elected, until it is stopped.
func stand(group *run.Group, election *consul.Election, deciding *scheduler.Scheduler) run.Stop {
	ctx, cancel := context.WithCancel(context.Background())
	var standing sync.WaitGroup
	standing.Go(func() {
		err := election.Run(ctx, func(ctx context.Context, term consul.Term) error {
			return deciding.Lead(ctx, term.Epoch(), term.Trusted)
		})
		if err != nil {
			group.Fail("election", err)
		}
	})
	return func(context.Context) error {
		cancel()
		standing.Wait()
		return nil
	}
}

// workerGroup is the task group of a function's workers in their Nomad job.
const workerGroup = "worker"

// scaler is Nomad as the scheduler sees it.
type scaler struct {
	nomad    *jobs.Client
	policies []scheduler.Policy
}

// nomadCheck is whether Nomad lets this scheduler read what it is to scale.
type nomadCheck struct {
	nomad *jobs.Client
	job   string
	read  atomic.Bool // once is enough: an outage of Nomad is no reason for another scheduler
}

// check asks Nomad until it has answered once. A job that is not there yet is an
// answer.
func (n *nomadCheck) check() error {
	if n.read.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if _, err := n.nomad.Count(ctx, n.job, "worker"); err != nil && !errors.Is(err, jobs.ErrNotFound) {
		return err
	}
	n.read.Store(true)
	return nil
}

// Counts reads every job's count; a job that Nomad does not know is left out.
func (s *scaler) Counts(ctx context.Context, ids []string) (map[string]scheduler.Count, error) {
	counts := make(map[string]scheduler.Count, len(ids))
	for _, id := range ids {
		c, err := s.nomad.Count(ctx, id, workerGroup)
		if errors.Is(err, jobs.ErrNotFound) {
			continue // the other fleets go on
		}
		if err != nil {
			return nil, err
		}
		counts[id] = scheduler.Count{Known: true, Count: c.Count, Running: c.Running, Deploying: c.Deploying, Index: c.Index}
	}
	return counts, nil
}

// Scale sets a group's count, with the reasons where Nomad's UI shows them.
func (s *scaler) Scale(ctx context.Context, a scheduler.Action, epoch uint64) error {
	message := fmt.Sprintf("%d to %d workers: %s", a.From, a.To, a.Cause)
	err := s.nomad.Scale(ctx, a.Job, a.Group, a.To, a.Index, message, map[string]any{"epoch": epoch, "reasons": a.Reasons})
	if errors.Is(err, jobs.ErrConflict) || errors.Is(err, jobs.ErrDeploying) {
		return fmt.Errorf("%w: %w", scheduler.ErrConflict, err)
	}
	return err
}

// decodeStrictly reads one JSON value, and refuses unknown fields and whatever
// follows it.
func decodeStrictly(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows the end of the JSON value")
	}
	return nil
}
