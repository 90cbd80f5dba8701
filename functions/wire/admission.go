package wire

import (
	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// admit takes a place for a call, before its body is read, or says why not.
func (s *Server) admit(name lightcone.FunctionName) (functions.Spec, error) {
	offers := s.config.Runner.Functions()
	slots := 0
	var offer *functions.Offer
	for i := range offers {
		slots += offers[i].Slots
		if offers[i].Spec.Name == name {
			offer = &offers[i]
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return functions.Spec{}, problem.New(problem.Overloaded, "This worker is stopping; the call was not run.")
	case offer == nil:
		return functions.Spec{}, problem.New(problem.NotFound, "There is no function named %q on this worker.", name)
	case s.inFlight >= s.maxCalls(slots):
		return functions.Spec{}, problem.New(problem.Overloaded, "This worker has as many calls as it takes; the call was not run.")
	case offer.Slots > 0 && s.busy[name]+s.held(name) >= offer.Slots:
		// The runner would say so too, but only once the body has been read.
		if s.sharer != nil {
			s.sharer.Yield(name)
		}
		return functions.Spec{}, problem.New(problem.Overloaded, "Every slot of the function %s is taken; the call was not run.", name)
	}
	s.inFlight++
	return offer.Spec, nil
}

// minDefaultCalls leaves room for functions that have no slots before their first call.
const minDefaultCalls = 16

func (s *Server) maxCalls(slots int) int {
	if s.config.MaxCalls > 0 {
		return s.config.MaxCalls
	}
	return max(4*slots, minDefaultCalls)
}

// leave gives back the place that admit took.
func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if s.draining && s.inFlight == 0 {
		closeOnce(s.quiet)
	}
}

// held is how many slots of the function others than the Server's calls have.
func (s *Server) held(name lightcone.FunctionName) int {
	if s.sharer == nil {
		return 0
	}
	return s.sharer.Held(name)
}

// count changes how many calls of a function are running.
func (s *Server) count(name lightcone.FunctionName, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[name] += change
}

// isDraining says whether calls are refused.
func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// load is what GET /load answers now.
func (s *Server) load() Load {
	ready := s.config.Runner.Ready() == nil
	offers := s.config.Runner.Functions()
	s.mu.Lock()
	defer s.mu.Unlock()
	load := Load{Draining: s.draining, Functions: make([]FunctionLoad, 0, len(offers))}
	for _, offer := range offers {
		held := s.held(offer.Spec.Name)
		f := FunctionLoad{
			Name: offer.Spec.Name, Busy: s.busy[offer.Spec.Name] + held, Held: held,
			DefaultTimeout: offer.Spec.DefaultTimeout, MaxTimeout: offer.Spec.MaxTimeout, MaxBodyBytes: offer.Spec.MaxBodyBytes,
		}
		if !s.draining {
			f.ColdStart = offer.ColdStart
			if ready {
				f.Slots = offer.Slots
			}
		}
		load.Functions = append(load.Functions, f)
	}
	return load
}
