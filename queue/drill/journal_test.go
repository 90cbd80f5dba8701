package main

import (
	"slices"
	"testing"
	"time"

	"lightcone"
	"lightcone/queue/history"
)

// What began and was heard of counts once; what was not heard of may have had its effect.
func TestBeginningsAreLeftOutOnce(t *testing.T) {
	call, other := lightcone.CallID{1}, lightcone.CallID{2}
	began := func(kind history.Kind, of lightcone.CallID, at int) history.Operation {
		return history.Operation{Kind: kind, Call: of, Client: 3, Began: time.Duration(at), Failed: true}
	}
	ended := func(o history.Operation, said lightcone.InvocationStatus) history.Operation {
		o.Failed, o.Ended, o.Said = false, o.Began+1, said
		return o
	}
	accept, cancel := began(history.Accept, call, 1), began(history.Cancel, call, 2)
	again, killed := began(history.Cancel, call, 3), began(history.Accept, other, 4)
	accepted, cancelled := ended(accept, lightcone.InvocationQueued), ended(cancel, lightcone.InvocationCancelled)
	noted := []history.Operation{accept, accepted, cancel, cancelled, again, killed}
	if got, want := once(noted), []history.Operation{accepted, cancelled, again, killed}; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	// A client was killed in the middle of a cancel that had its effect.
	ends := map[lightcone.CallID]history.End{call: {Said: lightcone.InvocationCancelled}}
	found := history.Operation{Kind: history.Find, Call: call, Client: drillClient, Began: 9, Ended: 10, Said: lightcone.InvocationCancelled}
	if v := history.Judge(append(once([]history.Operation{accept, accepted, again}), found), nil, ends); len(v.Impossible) > 0 {
		t.Errorf("%+v", v)
	}
	if v := history.Judge(append(once([]history.Operation{accept, accepted}), found), nil, ends); len(v.Impossible) != 1 || tell(v, []history.Operation{found}) == nil {
		t.Errorf("a call that nobody cancelled was found cancelled, and that is no fault: %+v", v)
	}
}
