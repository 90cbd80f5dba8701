package jobs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func count(t *testing.T, job string) Count {
	t.Helper()
	found, err := shared.jobs.Count(t.Context(), job, "g")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestScale(t *testing.T) {
	t.Parallel()
	if outcome := shared.run(t, "service", map[string]string{"name": "scaled"}); outcome.Err() != nil {
		t.Fatal(outcome.Err())
	}
	first := count(t, "scaled")
	if first.Count != 1 || first.Running != 1 || first.Healthy != 1 || first.Deploying || first.Index == 0 {
		t.Fatalf("count %+v", first)
	}
	if err := shared.jobs.Scale(t.Context(), "scaled", "g", 3, first.Index, "more is asked for", map[string]any{"busy": 4}); err != nil {
		t.Fatal(err)
	}
	second := count(t, "scaled")
	if second.Count != 3 || second.Index <= first.Index {
		t.Errorf("count %+v after %+v", second, first)
	}
	outcome, err := shared.jobs.Follow(t.Context(), "scaled", nil)
	if err != nil || outcome.Err() != nil {
		t.Fatalf("%+v, %v", outcome, err)
	}
	err = within(agentBound, "three to be counted healthy", func() error {
		if now := count(t, "scaled"); now.Healthy != 3 || now.Running != 3 || now.Deploying || now.Index != second.Index {
			return fmt.Errorf("count %+v, was %+v", now, second)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	err = shared.jobs.Scale(t.Context(), "scaled", "g", 5, first.Index, "by one who has not looked since", nil)
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "scale group g of job scaled to 5") {
		t.Errorf("with a stale index: %v", err)
	}
	if err := shared.jobs.Scale(t.Context(), "scaled", "g", 5, 0, "", nil); err == nil || !strings.Contains(err.Error(), "index is 0") {
		t.Errorf("without an index: %v", err)
	}
	if now := count(t, "scaled"); now.Count != 3 {
		t.Errorf("a refused scale left %+v", now)
	}

	// A new build keeps the scheduler's count.
	other := shared.spec(t, "service", map[string]string{"name": "scaled", "note": "new"})
	if _, err := shared.jobs.Submit(t.Context(), other, SubmitOptions{PreserveCounts: true}); err != nil {
		t.Fatal(err)
	}
	if now := count(t, "scaled"); now.Count != 3 {
		t.Errorf("a submission that preserves counts left %+v", now)
	}
}

func TestScaleDuringADeployment(t *testing.T) {
	t.Parallel()
	submission := shared.submit(t, "service", map[string]string{"name": "deploying", "settle": "20s"})
	found := count(t, "deploying")
	if !found.Deploying || found.Index != submission.ModifyIndex {
		t.Errorf("count %+v of %+v", found, submission)
	}
	err := shared.jobs.Scale(t.Context(), "deploying", "g", 2, found.Index, "too early", nil)
	if !errors.Is(err, ErrDeploying) {
		t.Errorf("got %v", err)
	}
}

func TestCountOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := shared.jobs.Count(t.Context(), "nothing", "g"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such job: %v", err)
	}
	if err := shared.jobs.Scale(t.Context(), "nothing", "g", 1, 7, "", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("scale no such job: %v", err)
	}
	shared.submit(t, "dispatch", nil)
	if _, err := shared.jobs.Count(t.Context(), "dispatch", "none"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "group none") {
		t.Errorf("no such group: %v", err)
	}
}
