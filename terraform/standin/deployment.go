package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/api"
)

const (
	// deploymentBound is the real provider's default for `timeouts`.
	deploymentBound = 5 * time.Minute
	pollEvery       = 250 * time.Millisecond
)

// waitForDeployment follows the evaluation that a registration started, and the
// ones after it, and then the deployment if they made one. It gives that
// deployment, or nil; its error is the reason why there is no success.
func waitForDeployment(ctx context.Context, client *api.Client, namespace, evaluation string) (*api.Deployment, error) {
	ctx, cancel := context.WithTimeout(ctx, deploymentBound)
	defer cancel()
	query := (&api.QueryOptions{Namespace: namespace}).WithContext(ctx)
	deployment := ""
	err := poll(ctx, "evaluation "+evaluation, func() (done bool, err error) {
		found, _, err := client.Evaluations().Info(evaluation, query)
		switch {
		case err != nil:
			return false, err
		case found.Status == api.EvalStatusFailed || found.Status == api.EvalStatusCancelled:
			return false, fmt.Errorf("evaluation %s: %s", found.Status, found.StatusDescription)
		case found.Status != api.EvalStatusComplete:
			return false, nil
		case found.NextEval != "":
			evaluation = found.NextEval
			return false, nil
		}
		deployment = found.DeploymentID
		return true, nil
	})
	if err != nil || deployment == "" {
		return nil, err
	}
	var ended *api.Deployment
	err = poll(ctx, "deployment "+deployment, func() (done bool, err error) {
		ended, _, err = client.Deployments().Info(deployment, query)
		switch {
		case err != nil:
			return false, err
		case ended.Status == api.DeploymentStatusFailed || ended.Status == api.DeploymentStatusCancelled:
			return false, fmt.Errorf("deployment %s ended as %s: %s", deployment, ended.Status, ended.StatusDescription)
		}
		return ended.Status == api.DeploymentStatusSuccessful, nil
	})
	return ended, err
}

// poll asks until it is done, fails, or the context's time is up.
func poll(ctx context.Context, what string, ask func() (done bool, err error)) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not end in time: %w", what, ctx.Err())
		case <-ticker.C:
		}
	}
}
