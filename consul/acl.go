package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// ErrBootstrapped is in Bootstrap's error when the ACL system already has its
// first token: Consul gives that out once, so it must have been kept.
var ErrBootstrapped = errors.New("the ACL system was bootstrapped before")

// anonymousAccessor names the token of requests without a token:
// https://developer.hashicorp.com/consul/docs/secure/acl/token
const anonymousAccessor = "00000000-0000-0000-0000-000000000002"

// Bootstrap makes the first token, which may do everything, and gives its secret.
// It works once in the life of a cluster, after its servers have found a leader.
// The client goes on with the token it had: Connect again with the new one.
func (c *Client) Bootstrap(ctx context.Context) (token string, err error) {
	options, cancel := c.writing(ctx)
	defer cancel()
	var made api.ACLToken
	// The client's own Bootstrap takes no context, so it would have no deadline.
	if _, err := c.api.Raw().Write("/v1/acl/bootstrap", nil, &made, options); err != nil {
		if status, ok := errors.AsType[api.StatusError](err); ok && status.Code == http.StatusForbidden {
			err = fmt.Errorf("%w: %w", ErrBootstrapped, err)
		}
		return "", fmt.Errorf("bootstrap Consul's ACLs: %w", err)
	}
	return made.SecretID, nil
}

// PutPolicy makes the policy, or gives an existing one these rules.
func (c *Client) PutPolicy(ctx context.Context, name, rules string) error {
	reading, cancelRead := c.reading(ctx)
	defer cancelRead()
	writing, cancelWrite := c.writing(ctx)
	defer cancelWrite()
	policy, _, err := c.api.ACL().PolicyReadByName(name, reading)
	switch {
	case err == nil && policy == nil:
		_, _, err = c.api.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, writing)
	case err == nil:
		policy.Rules = rules
		_, _, err = c.api.ACL().PolicyUpdate(policy, writing)
	}
	if err != nil {
		return fmt.Errorf("put the Consul policy %q: %w", name, err)
	}
	return nil
}

// PutRole makes the role, or gives an existing one exactly these policies, which
// must exist.
func (c *Client) PutRole(ctx context.Context, name string, policies ...string) error {
	reading, cancelRead := c.reading(ctx)
	defer cancelRead()
	writing, cancelWrite := c.writing(ctx)
	defer cancelWrite()
	role, _, err := c.api.ACL().RoleReadByName(name, reading)
	switch {
	case err == nil && role == nil:
		_, _, err = c.api.ACL().RoleCreate(&api.ACLRole{Name: name, Policies: links(policies)}, writing)
	case err == nil:
		role.Policies = links(policies)
		_, _, err = c.api.ACL().RoleUpdate(role, writing)
	}
	if err != nil {
		return fmt.Errorf("put the Consul role %q with policies %q: %w", name, policies, err)
	}
	return nil
}

// PutToken makes a token with these policies, which must exist, or gives the one
// of this description exactly these, and answers its secret. The description is
// the token's name: use each for one token.
func (c *Client) PutToken(ctx context.Context, description string, policies ...string) (secret string, err error) {
	accessor, err := c.accessorOf(ctx, description)
	if err == nil {
		secret, err = c.putToken(ctx, accessor, description, policies)
	}
	if err != nil {
		return "", fmt.Errorf("put the Consul token %q with policies %q: %w", description, policies, err)
	}
	return secret, nil
}

// PutAnonymousPolicies gives requests without a token exactly these policies.
func (c *Client) PutAnonymousPolicies(ctx context.Context, policies ...string) error {
	if _, err := c.putToken(ctx, anonymousAccessor, "Anonymous Token", policies); err != nil {
		return fmt.Errorf("give Consul's anonymous token the policies %q: %w", policies, err)
	}
	return nil
}

// accessorOf finds the token of a description; "" when there is none.
func (c *Client) accessorOf(ctx context.Context, description string) (string, error) {
	options, cancel := c.reading(ctx)
	defer cancel()
	tokens, _, err := c.api.ACL().TokenList(options)
	if err != nil {
		return "", err
	}
	for _, token := range tokens {
		if token.Description == description {
			return token.AccessorID, nil
		}
	}
	return "", nil
}

func (c *Client) putToken(ctx context.Context, accessor, description string, policies []string) (secret string, err error) {
	options, cancel := c.writing(ctx)
	defer cancel()
	token := &api.ACLToken{AccessorID: accessor, Description: description, Policies: links(policies)}
	if accessor == "" {
		token, _, err = c.api.ACL().TokenCreate(token, options)
	} else {
		token, _, err = c.api.ACL().TokenUpdate(token, options)
	}
	if err != nil {
		return "", err
	}
	return token.SecretID, nil
}

// links names policies where Consul wants them; an empty list takes all away.
func links(policies []string) []*api.ACLLink {
	linked := make([]*api.ACLLink, 0, len(policies))
	for _, policy := range policies {
		linked = append(linked, &api.ACLLink{Name: policy})
	}
	return linked
}
