package jobs

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/nomad/api"
)

// Job is a parsed job specification. Parse makes it; it is not changed afterwards.
type Job struct {
	spec      *api.Job
	source    string // as it was written, for Nomad's UI
	variables string // as a variables file
}

// Service is what a group or one of its tasks registers in Consul or Nomad.
type Service struct {
	Name     string
	Provider string // "consul" or "nomad"
	Port     string // a port's label
	Tags     []string
	Meta     map[string]string
	Checks   []Check
}

// Check is how a service's health is found out.
type Check struct {
	Name     string
	Type     string // "http", "tcp", "grpc", "script"
	Path     string // of an HTTP check
	Interval time.Duration
	Timeout  time.Duration
}

// ID is the job's identifier in its namespace.
func (j *Job) ID() string { return deref(j.spec.ID) }

// Type is service (also where the specification leaves it open), batch, system or sysbatch.
func (j *Job) Type() string { return kindOf(j.spec) }

// Groups are the names of the job's task groups, in the order of the specification.
func (j *Job) Groups() []string {
	var names []string
	for _, group := range j.spec.TaskGroups {
		names = append(names, deref(group.Name))
	}
	return names
}

// Count is how many allocations of a group the specification asks for: 1 where it
// leaves it open; 0 when there is no such group.
func (j *Job) Count(group string) int {
	found := j.group(group)
	if found == nil {
		return 0
	}
	return countOf(found)
}

// Tasks are the names of a group's tasks, in the order of the specification.
func (j *Job) Tasks(group string) []string {
	var names []string
	if found := j.group(group); found != nil {
		for _, task := range found.Tasks {
			names = append(names, task.Name)
		}
	}
	return names
}

// Driver is what runs a task: exec, raw_exec, docker. Empty when there is no such task.
func (j *Job) Driver(group, task string) string {
	if found := j.task(group, task); found != nil {
		return found.Driver
	}
	return ""
}

// Environment is a copy of a task's env block, before Nomad fills in what it
// knows only on the node; empty when there is no such task.
func (j *Job) Environment(group, task string) map[string]string {
	environment := make(map[string]string)
	if found := j.task(group, task); found != nil {
		maps.Copy(environment, found.Env)
	}
	return environment
}

// Command is what a task executes, from its driver's config; empty when it names none.
func (j *Job) Command(group, task string) string {
	if found := j.task(group, task); found != nil {
		command, _ := found.Config["command"].(string)
		return command
	}
	return ""
}

// Args are the arguments of a task's command.
func (j *Job) Args(group, task string) []string {
	found := j.task(group, task)
	if found == nil {
		return nil
	}
	listed, _ := found.Config["args"].([]any) // it came as JSON
	var args []string
	for _, argument := range listed {
		args = append(args, fmt.Sprint(argument))
	}
	return args
}

// Services are what a group and then its tasks register, with their checks.
func (j *Job) Services(group string) []Service {
	found := j.group(group)
	if found == nil {
		return nil
	}
	declared := slices.Clone(found.Services)
	for _, task := range found.Tasks {
		declared = append(declared, task.Services...)
	}
	var services []Service
	for _, service := range declared {
		services = append(services, serviceOf(service))
	}
	return services
}

func serviceOf(service *api.Service) Service {
	made := Service{
		Name: service.Name, Provider: service.Provider, Port: service.PortLabel, Tags: service.Tags, Meta: service.Meta,
	}
	if made.Provider == "" {
		made.Provider = api.ServiceProviderConsul
	}
	for _, check := range service.Checks {
		made.Checks = append(made.Checks, Check{
			Name: check.Name, Type: check.Type, Path: check.Path, Interval: check.Interval, Timeout: check.Timeout,
		})
	}
	return made
}

func (j *Job) group(name string) *api.TaskGroup {
	for _, group := range j.spec.TaskGroups {
		if deref(group.Name) == name {
			return group
		}
	}
	return nil
}

func (j *Job) task(group, name string) *api.Task {
	found := j.group(group)
	if found == nil {
		return nil
	}
	for _, task := range found.Tasks {
		if task.Name == name {
			return task
		}
	}
	return nil
}

// kindOf is a job's type; Nomad takes one without for a service.
func kindOf(job *api.Job) string {
	if kind := deref(job.Type); kind != "" {
		return kind
	}
	return api.JobTypeService
}

// countOf is a group's count; Nomad takes one without for 1.
func countOf(group *api.TaskGroup) int {
	if group.Count == nil {
		return 1
	}
	return *group.Count
}

// deref is what a pointer of the library's points to, or the zero value: it
// leaves nil what a specification leaves open.
func deref[T any](pointer *T) T {
	if pointer == nil {
		var zero T
		return zero
	}
	return *pointer
}
