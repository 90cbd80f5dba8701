package wire

import (
	"sync/atomic"
	"testing"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// sharing is a runner whose slots others take, too.
type sharing struct {
	*runner
	held   atomic.Int64
	yields atomic.Int64
}

func (s *sharing) Held(lightcone.FunctionName) int { return int(s.held.Load()) }
func (s *sharing) Yield(lightcone.FunctionName)    { s.yields.Add(1) }

// Slots that others hold are busy in /load, are refused to calls, and those who hold
// them are told of the refusal.
func TestSlotsThatOthersHoldAreBusy(t *testing.T) {
	b := newBlocking()
	s := &sharing{runner: newRunner(b.run)}
	s.offers = []functions.Offer{offer("echo", 2)}
	_, address := serve(t, ServerConfig{Key: testKey, Runner: s})
	client := dialReady(t, ClientConfig{Address: address, Key: testKey})
	load := func() (busy, held int) {
		load, err := FetchLoad(t.Context(), address, testKey)
		if err != nil {
			t.Fatal(err)
		}
		return load.Functions[0].Busy, load.Functions[0].Held
	}
	s.held.Store(1)
	result := make(chan error, 1)
	go func() { result <- client.Run(newCall(nil), new(functions.Answer)) }()
	<-b.started
	if busy, held := load(); busy != 2 || held != 1 {
		t.Errorf("one slot is held and one runs a call: %d busy, %d held", busy, held)
	}
	wantKind(t, client.Run(newCall(nil), new(functions.Answer)), problem.Overloaded)
	if s.yields.Load() != 1 {
		t.Errorf("one call was refused, and those who hold slots heard of %d", s.yields.Load())
	}
	s.held.Store(0)
	go func() { result <- client.Run(newCall(nil), new(functions.Answer)) }()
	<-b.started
	close(b.release)
	for range 2 {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	if s.yields.Load() != 1 {
		t.Error("those who hold slots are to yield, though no call was refused")
	}
}
