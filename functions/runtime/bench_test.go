package runtime

import (
	"context"
	"testing"
	"time"

	"lightcone/functions"
)

// BenchmarkRun is a call whose caller waits: 1 KB to a process and back.
func BenchmarkRun(b *testing.B) {
	benchmarkCalls(b, func(s *Supervisor, call *functions.Call, answer *functions.Answer) error { return s.Run(call, answer) })
}

// BenchmarkRunUntil is the same as a queued call.
func BenchmarkRunUntil(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	benchmarkCalls(b, func(s *Supervisor, call *functions.Call, answer *functions.Answer) error {
		return s.RunUntil(ctx, call, answer)
	})
}

func benchmarkCalls(b *testing.B, run func(*Supervisor, *functions.Call, *functions.Answer) error) {
	s := start(b, 1, specForTest())
	call := &functions.Call{Function: testFunction, Tenant: "demo", Query: []byte("do=echo"), Body: make([]byte, 1<<10)}
	var answer functions.Answer
	b.ReportAllocs()
	for b.Loop() {
		call.Deadline = time.Now().Add(10 * time.Second)
		if err := run(s, call, &answer); err != nil || len(answer.Body) != len(call.Body) {
			b.Fatal(err)
		}
	}
}
