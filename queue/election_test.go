package queue

import (
	"testing"
	"time"
)

// The variables are the server's own: before this package changed them they had the
// values that its source gives them. With another version of the server that has none
// of that name they would be ours, empty, and without effect.
func TestElectionTimesAreTheServers(t *testing.T) {
	if want := [...]time.Duration{4 * time.Second, 9 * time.Second, time.Second}; electionDefaults != want {
		t.Errorf("the server's own times are %v, want %v: look for what they are called in this version", electionDefaults, want)
	}
}
