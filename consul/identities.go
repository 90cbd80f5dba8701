package consul

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/consul/api"
)

// WorkloadAuthMethod is the auth method that Nomad's clients log services and
// tasks in with, Nomad's default name for it.
const WorkloadAuthMethod = "nomad-workloads"

// JobRole gives the tasks of one Nomad job one Consul role, which must exist
// when they log in.
type JobRole struct {
	Job  string // the Nomad job's ID; with a star at its end, that of all jobs whose ID begins so
	Role string
}

// selector is which logins get the role.
func (given JobRole) selector() (string, error) {
	job, several := strings.CutSuffix(given.Job, "*")
	if !plainName.MatchString(job) || !plainName.MatchString(given.Role) {
		return "", fmt.Errorf("bind the Consul role %q to Nomad's job %q: want letters, digits, dots, dashes and underscores only, and a star only at the job's end", given.Role, given.Job)
	}
	if several {
		return fmt.Sprintf(`"nomad_service" not in value and value.nomad_job_id matches %q`, "^"+regexp.QuoteMeta(job)), nil
	}
	return fmt.Sprintf(`"nomad_service" not in value and value.nomad_job_id == %q`, job), nil
}

// plainName keeps names out of the selector's grammar.
var plainName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// PutWorkloadIdentity lets Nomad's workloads in: a service logs in as itself and
// may register its own name; a task gets its job's role, and a task of any other
// job gets nothing. It may be run again: rules of jobs that are not named any more
// are taken away. Consul's servers must reach jwksURL, Nomad's
// /.well-known/jwks.json, already now: they try it.
//
// The same as `nomad setup consul` but for the roles, one for all tasks there:
// https://developer.hashicorp.com/nomad/docs/secure/acl/consul
func (c *Client) PutWorkloadIdentity(ctx context.Context, jwksURL string, roles ...JobRole) error {
	rules := []*api.ACLBindingRule{{
		Description: "Nomad services register themselves",
		Selector:    `"nomad_service" in value`,
		BindType:    api.BindingRuleBindTypeService,
		BindName:    "${value.nomad_service}",
	}}
	for _, given := range roles {
		selector, err := given.selector()
		if err != nil {
			return err
		}
		rules = append(rules, &api.ACLBindingRule{
			Description: "Tasks of Nomad's job " + given.Job,
			Selector:    selector,
			BindType:    api.BindingRuleBindTypeRole,
			BindName:    given.Role,
		})
	}
	if err := c.putAuthMethod(ctx, jwksURL); err != nil {
		return err
	}
	return c.putBindingRules(ctx, rules)
}

func (c *Client) putAuthMethod(ctx context.Context, jwksURL string) error {
	method := &api.ACLAuthMethod{
		Name:          WorkloadAuthMethod,
		Type:          "jwt",
		DisplayName:   WorkloadAuthMethod,
		Description:   "Nomad's services and tasks",
		TokenLocality: "local",
		Config: map[string]any{
			"JWKSURL":          jwksURL,
			"JWTSupportedAlgs": []string{"RS256"}, // Nomad's since 1.7; Consul's configuration does not take EdDSA
			"BoundAudiences":   []string{"consul.io"},
			"ClaimMappings": map[string]string{
				"nomad_namespace": "nomad_namespace",
				"nomad_job_id":    "nomad_job_id",
				"nomad_task":      "nomad_task",
				"nomad_service":   "nomad_service",
			},
		},
	}
	reading, cancelRead := c.reading(ctx)
	defer cancelRead()
	writing, cancelWrite := c.writing(ctx)
	defer cancelWrite()
	existing, _, err := c.api.ACL().AuthMethodRead(WorkloadAuthMethod, reading)
	switch {
	case err == nil && existing == nil:
		_, _, err = c.api.ACL().AuthMethodCreate(method, writing)
	case err == nil:
		_, _, err = c.api.ACL().AuthMethodUpdate(method, writing)
	}
	if err != nil {
		return fmt.Errorf("put the Consul auth method %q with JWKS URL %q: %w; Consul's servers must reach that URL", WorkloadAuthMethod, jwksURL, err)
	}
	return nil
}

// putBindingRules leaves the auth method with exactly these rules. What is there
// and right stays, so nobody who logs in meanwhile finds a rule missing.
func (c *Client) putBindingRules(ctx context.Context, rules []*api.ACLBindingRule) error {
	options, cancel := c.reading(ctx)
	defer cancel()
	existing, _, err := c.api.ACL().BindingRuleList(WorkloadAuthMethod, options)
	if err != nil {
		return fmt.Errorf("list the binding rules of the Consul auth method %q: %w", WorkloadAuthMethod, err)
	}
	surplus := make(map[bound][]string)
	for _, rule := range existing {
		surplus[boundBy(rule)] = append(surplus[boundBy(rule)], rule.ID)
	}
	for _, rule := range rules {
		if there := surplus[boundBy(rule)]; len(there) > 0 {
			surplus[boundBy(rule)] = there[1:]
			continue
		}
		rule.AuthMethod = WorkloadAuthMethod
		if err := c.createRule(ctx, rule); err != nil {
			return err
		}
	}
	for _, ids := range surplus {
		for _, id := range ids {
			if err := c.deleteRule(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// bound is what a binding rule does: two with the same do the same.
type bound struct{ selector, kind, name string }

func boundBy(rule *api.ACLBindingRule) bound {
	return bound{selector: rule.Selector, kind: string(rule.BindType), name: rule.BindName}
}

func (c *Client) createRule(ctx context.Context, rule *api.ACLBindingRule) error {
	options, cancel := c.writing(ctx)
	defer cancel()
	if _, _, err := c.api.ACL().BindingRuleCreate(rule, options); err != nil {
		return fmt.Errorf("create the Consul binding rule %q: %w", rule.Description, err)
	}
	return nil
}

func (c *Client) deleteRule(ctx context.Context, id string) error {
	options, cancel := c.writing(ctx)
	defer cancel()
	if _, err := c.api.ACL().BindingRuleDelete(id, options); err != nil {
		return fmt.Errorf("delete the Consul binding rule %s: %w", id, err)
	}
	return nil
}
