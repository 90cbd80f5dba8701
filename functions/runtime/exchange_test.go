package runtime

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A server that closes its connections is reconnected to, on a socket as on a port.
func TestAFunctionMayCloseItsConnections(t *testing.T) {
	for _, usePort := range []bool{false, true} {
		spec := specForTest()
		spec.UsePort = usePort
		spec.Env = append(spec.Env, envClosing+"=yes")
		s := start(t, 1, spec)
		for i := range 20 {
			want := fmt.Sprint("call ", i)
			if answer, err := call(s, "do=echo", want, time.Second); err != nil || string(answer.Body) != want {
				t.Fatalf("port %v: got %q, %v", usePort, answer.Body, err)
			}
		}
		if status := s.Status()[0]; status.Crashes != 0 {
			t.Errorf("port %v: %d processes were lost", usePort, status.Crashes)
		}
	}
}

// What a function sends between two calls must not become the next one's answer.
func TestALateSecondAnswerReachesNobody(t *testing.T) {
	s := start(t, 1, specForTest())
	if answer, err := call(s, "do=late", "", time.Second); err != nil || string(answer.Body) != "late" {
		t.Fatalf("the first call: %q, %v", answer.Body, err)
	}
	conn := s.pools[testFunction].idle[len(s.pools[testFunction].idle)-1].connection
	eventually(t, "the second answer has come", func() bool {
		quiet, err := silent(conn)
		return !quiet && err != nil
	})
	if answer, err := call(s, "do=echo", "mine", time.Second); err == nil && string(answer.Body) != "mine" {
		t.Errorf("the next call got %q", answer.Body)
	}
}

func TestAFunctionMayRefuseBeforeItHasReadAll(t *testing.T) {
	spec := specForTest()
	spec.Env = []string{envBehave + "=early"}
	s := start(t, 1, spec)
	for range 5 {
		answer, err := call(s, "", strings.Repeat("x", 8<<20), 5*time.Second)
		if err != nil || answer.Status != 413 {
			t.Fatalf("got %d, %v", answer.Status, err)
		}
	}
}
