package main

import (
	"context"
	"fmt"
	"time"

	"lightcone/consul"
)

// open connects to Consul as its operator.
func (c *cluster) open() (*consul.Client, error) {
	return consul.Connect(consul.Config{Address: consulURL, Token: c.secrets.ConsulManagement})
}

// admitAgents makes the policies, and the tokens that the agents start with. The
// Consul server has just been started: its ACL system takes a moment.
func (c *cluster) admitAgents(ctx context.Context) error {
	operator, err := c.open()
	if err != nil {
		return err
	}
	defer operator.Close()
	var failed error
	if waitUntil(ctx, 30*time.Second, func() bool {
		_, failed = operator.List(ctx, "lightcone/")
		return failed == nil
	}) != nil {
		return fmt.Errorf("there is no leader among the Consul servers: %w; its log is %s", failed, logOf(consulOn(edge())))
	}
	for name, rules := range consul.Policies() {
		if err := operator.PutPolicy(ctx, name, rules); err != nil {
			return err
		}
	}
	// Whoever can reach these agents at all may look, and change nothing.
	if err := operator.PutAnonymousPolicies(ctx, "ui"); err != nil {
		return err
	}
	for _, of := range []struct {
		token  *string
		policy string
	}{
		{&c.secrets.ConsulAgent, "consul-agent"},
		{&c.secrets.NomadServer, "nomad-server"},
		{&c.secrets.NomadClient, "nomad-client"},
	} {
		if *of.token, err = operator.PutToken(ctx, "lightcone-"+of.policy, of.policy); err != nil {
			return err
		}
	}
	return nil
}

// admitWorkloads lets Nomad's jobs in: each task with its own role. Consul asks
// Nomad's server for its public keys, so that has to run.
func (c *cluster) admitWorkloads(ctx context.Context) error {
	operator, err := c.open()
	if err != nil {
		return err
	}
	defer operator.Close()
	var roles []consul.JobRole
	for _, policy := range []string{"gateway", "identity", "queue", "redis", "scheduler", "worker"} {
		role, job := "lightcone-"+policy, policy
		if policy == "worker" {
			job = "worker-*" // one job for each function
		}
		if err := operator.PutRole(ctx, role, policy); err != nil {
			return err
		}
		roles = append(roles, consul.JobRole{Job: job, Role: role})
	}
	return operator.PutWorkloadIdentity(ctx, "http://"+serverAddress+":4646/.well-known/jwks.json", roles...)
}
