package gateway

import (
	"lightcone/functions"
	"lightcone/internal/problem"
)

// Quarantine knows which inputs of which tenants kill the slots that run them,
// whichever gateway saw it. Both methods are called from many goroutines, and must not wait for anybody.
type Quarantine interface {
	// Quarantined is nil when the call's input may be run: on almost every call, so
	// it costs next to nothing then. Otherwise it says until when it may not.
	Quarantined(call *functions.Call) *problem.Error
	// Strike notes that the call's input has killed the slot that ran it. It is done
	// with the call when it returns.
	Strike(call *functions.Call)
}

// quarantined refuses a call whose input has killed slots.
func (g *Gateway) quarantined(call *functions.Call) error {
	if g.config.Quarantine == nil {
		return nil
	}
	if found := g.config.Quarantine.Quarantined(call); found != nil {
		return found
	}
	return nil
}

// strike notes a call that killed its slot.
func (g *Gateway) strike(call *functions.Call, err error) {
	if g.config.Quarantine != nil && KilledSlot(err) {
		g.config.Quarantine.Strike(call)
	}
}

// KilledSlot says whether a call that came to err killed the slot that ran it. A
// function-failed that comes as an error did so too: the process broke the protocol and
// was replaced (a function that names that problem itself has answered). A deadline is
// no kill: callers choose it, and could choose one that no input meets.
func KilledSlot(err error) bool {
	if err == nil {
		return false
	}
	switch problem.Of(err).Kind {
	case problem.FunctionCrashed, problem.OutOfMemory, problem.FunctionFailed:
		return true
	default:
		return false
	}
}
