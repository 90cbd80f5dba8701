package jobs

import (
	"errors"
	"testing"
	"time"
)

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   error
	}{
		{500, "Enforcing job modify index 3: job exists with conflicting job modify index: 9", ErrConflict},
		{500, "rpc error: Enforcing job modify index 0: job already exists", ErrConflict},
		{400, "job scaling blocked due to active deployment", ErrDeploying},
		{400, "group count was greater than scaling policy maximum: 9 > 3", nil},
		{404, "job not found", ErrNotFound},
		{403, "Permission denied", ErrForbidden},
		{500, "No cluster leader", ErrUnreachable},
		{500, "rpc error: EOF", ErrUnreachable},
		{500, "1 error occurred: Task group g validation failed", nil},
		{400, "No cluster leader is a fine name for a job", nil},
		{503, "", ErrUnreachable},
		{429, "", ErrUnreachable},
	} {
		if got := classify(test.status, test.body); !errors.Is(got, test.want) || (test.want == nil && got != nil) {
			t.Errorf("%d %q: got %v, want %v", test.status, test.body, got, test.want)
		}
	}
}

func TestBackOff(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: 50 * time.Millisecond, 2: 100 * time.Millisecond, 6: 1600 * time.Millisecond, 7: 2500 * time.Millisecond} {
		if got := backOff(failures, 0.5); got != want {
			t.Errorf("half the most after %d failures: %v, want %v", failures, got, want)
		}
	}
}
