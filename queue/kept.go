package queue

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// What is kept of a tenant's calls is bounded, too, lest it fill the queue for all: a
// tenant that has more than Limits.KeptShare of what a stream may hold is refused until
// some of it is gone. While there is much more of what they would add to, its queued calls
// end as they are met: failed, not run, with a record that is small. Nobody counts: the node that leads CALLS weighs what the streams
// have (weigh.go), and says who has too much; all clients hear that.

const (
	farBeyond   = 0.05        // of what a stream may hold: beyond the share by so much, a tenant's calls end without being run
	keptSlots   = 64          // a tenant's bytes are forgotten a 64th of their time late
	keptRefusal = time.Minute // when it is worth to ask again: room comes with time
)

// kind is one kind of thing that is kept.
type kind struct {
	stream, subjects string
	what             string        // as who is refused reads it
	lasts            time.Duration // for so long each stays, neither more nor less; 0 = until somebody removes it
	ofEnds           bool          // calls that end add to it
	named            bool          // the messages name objects, and their payloads say of what size

	// weigh is whose a message is, and its bytes; 0 = it does not count.
	weigh func(jetstream.Msg) (lightcone.TenantID, int64)
}

// kinds are those that are weighed. WORK and CALLBACKS are work queues, which nobody
// may read but who does the work.
func kinds(l Limits) []kind {
	return []kind{
		{stream: callsStream, subjects: "call.*.*", what: "states and results of calls", lasts: l.Keep, ofEnds: true, weigh: weighFinal},
		{stream: "OBJ_" + resultsBucket, subjects: "$O." + resultsBucket + ".M.*", what: "large results", ofEnds: true, named: true, weigh: weighObject},
		{stream: deadStream, subjects: "dead.*.*", what: "dead letters", ofEnds: true, weigh: weighMessage},
		{stream: "OBJ_" + inputsBucket, subjects: "$O." + inputsBucket + ".M.*", what: "large inputs", named: true, weigh: weighObject},
		{stream: keysStream, subjects: "key.*.*", what: "idempotency keys", lasts: l.Keep, weigh: weighMessage},
	}
}

// weighMessage is the size of a message of <kind>.<tenant>.<…>, as JetStream counts it: a
// frame of 30 bytes, the subject, the headers, the payload. The payload may have been left out.
func weighMessage(m jetstream.Msg) (lightcone.TenantID, int64) {
	header := m.Headers()
	if header.Get(headHeader) == "" { // it marks one that has expired
		return "", 0
	}
	bytes := 30 + len(m.Subject()) + 16
	payload := len(m.Data())
	if left, err := strconv.Atoi(header.Get(nats.MsgSize)); err == nil {
		payload = left
		header.Del(nats.MsgSize) // it is not in the stream
	}
	for name, values := range header {
		for _, value := range values {
			bytes += len(name) + len(value) + 4
		}
	}
	_, rest, _ := strings.Cut(m.Subject(), ".")
	tenant, _, _ := strings.Cut(rest, ".")
	return lightcone.TenantID(tenant), int64(bytes + payload)
}

// weighFinal is weighMessage for records of calls that have ended, those that expire.
// The others are small, and as many as the tenant has queued.
func weighFinal(m jetstream.Msg) (lightcone.TenantID, int64) {
	if m.Headers().Get(jetstream.MsgTTLHeader) == "" {
		return "", 0
	}
	return weighMessage(m)
}

// weighObject is the size of the object that a message of an object store names.
func weighObject(m jetstream.Msg) (lightcone.TenantID, int64) {
	var object jetstream.ObjectInfo
	if json.Unmarshal(m.Data(), &object) != nil || object.Deleted {
		return "", 0
	}
	tenant, _, named := strings.Cut(object.Name, ".")
	if !named { // nothing that a client of the queue stored
		return "", 0
	}
	return lightcone.TenantID(tenant), int64(object.Size)
}

// weights are the bytes of each tenant, by the slot of time in which they came.
type weights struct {
	lasts time.Duration // for so long each stays; 0 = for good
	bytes map[lightcone.TenantID]map[int64]int64
}

func (w *weights) slot(t time.Time) int64 {
	if w.lasts == 0 {
		return 0
	}
	return t.UnixNano() / max(1, int64(w.lasts)/keptSlots)
}

func (w *weights) add(tenant lightcone.TenantID, bytes int64, came time.Time) {
	if w.bytes == nil {
		w.bytes = make(map[lightcone.TenantID]map[int64]int64)
	}
	if w.bytes[tenant] == nil {
		w.bytes[tenant] = make(map[int64]int64)
	}
	w.bytes[tenant][w.slot(came)] += bytes
}

// kept is what each tenant has now: no less than that, and no more than what it had a
// slot ago. What is older is forgotten.
func (w *weights) kept(now time.Time) map[lightcone.TenantID]int64 {
	kept := make(map[lightcone.TenantID]int64, len(w.bytes))
	oldest := w.slot(now.Add(-w.lasts))
	for tenant, slots := range w.bytes {
		for slot, bytes := range slots {
			if slot < oldest {
				delete(slots, slot)
				continue
			}
			kept[tenant] += bytes
		}
		if len(slots) == 0 {
			delete(w.bytes, tenant)
		}
	}
	return kept
}

// excess says that a tenant has more than its share.
type excess struct {
	Of  string // what
	Far bool   `json:",omitempty"` // so much more that its queued calls end without being run
}

// beyond are those who have too much of a kind, of which a stream may hold most bytes.
func beyond(k *kind, kept map[lightcone.TenantID]int64, most int64, share float64) map[lightcone.TenantID]excess {
	those := make(map[lightcone.TenantID]excess)
	for tenant, bytes := range kept {
		if float64(bytes) > share*float64(most) {
			those[tenant] = excess{Of: k.what, Far: k.ofEnds && float64(bytes) > (share+farBeyond)*float64(most)}
		}
	}
	return those
}

// join adds those of one more kind to all: of each tenant the worst is said.
func join(all, those map[lightcone.TenantID]excess) {
	for tenant, e := range those {
		if known, is := all[tenant]; !is || e.Far && !known.Far {
			all[tenant] = e
		}
	}
}

// refusal is why a call of the tenant is not to be accepted; nil when it may be.
func (e excess) refusal(tenant lightcone.TenantID) error {
	if e.Of == "" {
		return nil
	}
	full := problem.New(problem.LimitReached, "Tenant %s has its share of what the queue keeps (%s): wait until some of it has expired.", tenant, e.Of)
	full.Quota, full.RetryAfter = "kept_bytes", keptRefusal
	return full
}

// result is what a queued call of a tenant that is far beyond its share comes to.
func (e excess) result(tenant lightcone.TenantID) functions.Result {
	return functions.Result{Problem: problem.LimitReached, Body: fmt.Appendf(nil,
		"Tenant %s has far more than its share of what the queue keeps (%s), so the call was not run: it may be sent again, as a new call, when some of that has expired.", tenant, e.Of)}
}
