package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The names of what the nodes keep.
const (
	workStream      = "WORK"      // calls to be run: work.<function>.<lane>.<tenant>
	callsStream     = "CALLS"     // a call's record: call.<tenant>.<id>, the barriers of reads, who has too much, and callbacks' attempts
	keysStream      = "KEYS"      // idempotency keys: key.<tenant>.<hash>
	deadStream      = "DEAD"      // calls that were given up: dead.<tenant>.<id>
	callbacksStream = "CALLBACKS" // news for callers: callback.<tenant>.<id>
	inputsBucket    = "INPUTS"    // inputs that are too large for a message
	resultsBucket   = "RESULTS"   // and results

	duplicates     = 2 * time.Minute // a publish that is repeated within it is one; the nodes hold all ids of that time in memory
	markerKeep     = time.Minute     // how long a record that has expired is seen to have
	beyondSubject  = "beyond"        // who has more than its share of what is kept
	barrierSubject = "barrier"       // a read's tiny write, which proves a quorum
	triesPrefix    = "tries."        // with the sequence of a callback's message: how many attempts there were
	changedPrefix  = "changed."      // with tenant and id: a record was written; kept nowhere, nobody may count on it
	cancelPrefix   = "cancel."       // with the id: a call was cancelled; kept nowhere either
)

// layout is how the streams are bounded.
type layout struct {
	replicas int           // copies of everything
	share    int64         // messages that a tenant may have in one lane
	maxCalls int64         // messages of WORK
	maxBytes int64         // bytes of WORK, and of CALLS, INPUTS and RESULTS each
	keep     time.Duration // of keys, and of the objects of calls that have ended
	maxAge   time.Duration // of a call in the queue
	deadKeep time.Duration
}

// streams are the configurations: file storage and refusal when full, all of them.
func (l layout) streams() []jetstream.StreamConfig {
	all := []jetstream.StreamConfig{
		{
			Name: workStream, Subjects: []string{"work.*.*.*"}, Retention: jetstream.WorkQueuePolicy,
			MaxMsgs: l.maxCalls, MaxBytes: l.maxBytes,
			MaxMsgsPerSubject: l.share, DiscardNewPerSubject: true, AllowDirect: true,
		},
		{
			Name: callsStream, Subjects: []string{"call.*.*", barrierSubject, beyondSubject, triesPrefix + "*"},
			MaxMsgsPerSubject: 1, MaxBytes: l.maxBytes,
			AllowMsgTTL: true, SubjectDeleteMarkerTTL: markerKeep, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: "call.>", Destination: changedPrefix + ">", HeadersOnly: true},
		},
		{
			Name: keysStream, Subjects: []string{"key.*.*"},
			MaxMsgsPerSubject: 1, MaxAge: l.keep, MaxBytes: l.maxBytes, AllowDirect: true,
		},
		{Name: deadStream, Subjects: []string{"dead.*.*"}, MaxMsgsPerSubject: 1, MaxAge: l.deadKeep, MaxBytes: l.maxBytes, AllowDirect: true},
		{Name: callbacksStream, Subjects: []string{"callback.*.*"}, Retention: jetstream.WorkQueuePolicy, MaxBytes: l.maxBytes},
	}
	for i := range all {
		s := &all[i]
		s.Storage, s.Discard, s.Replicas = jetstream.FileStorage, jetstream.DiscardNew, l.replicas
		s.Duplicates, s.Compression = duplicates, jetstream.NoCompression
		if s.MaxAge > 0 {
			s.Duplicates = min(duplicates, s.MaxAge) // or the nodes would refuse it; what has an id has no such age
		}
	}
	return all
}

// inputSpare is how much longer an input stays than the call that it was stored for may be
// queued, and then be dead: a call may be ended late, and a redrive stores again only what
// is older than half of it.
const inputSpare = 24 * time.Hour

// buckets are the object stores. An object that nobody has removed by then belongs to
// no call that could still be run or read.
func (l layout) buckets() []jetstream.ObjectStoreConfig {
	return []jetstream.ObjectStoreConfig{
		{Bucket: inputsBucket, Storage: jetstream.FileStorage, Replicas: l.replicas, MaxBytes: l.maxBytes, TTL: l.maxAge + l.deadKeep + inputSpare},
		{Bucket: resultsBucket, Storage: jetstream.FileStorage, Replicas: l.replicas, MaxBytes: l.maxBytes, TTL: l.maxAge + 2*l.keep},
	}
}

// requestBound is for one request to JetStream: it is answered at once, or not at all
// while nobody leads.
const requestBound = 3 * time.Second

// ensure makes the streams and object stores what l says they are, those that are
// missing and those that are otherwise. Several may do it at once, and again.
func ensure(ctx context.Context, js jetstream.JetStream, l layout) error {
	for _, stream := range l.streams() {
		if err := bounded(ctx, func(ctx context.Context) error { _, err := js.CreateOrUpdateStream(ctx, stream); return err }); err != nil {
			return fmt.Errorf("make the stream %s: %w", stream.Name, err)
		}
	}
	for _, bucket := range l.buckets() {
		if err := bounded(ctx, func(ctx context.Context) error { _, err := js.CreateOrUpdateObjectStore(ctx, bucket); return err }); err != nil {
			return fmt.Errorf("make the object store %s: %w", bucket.Bucket, err)
		}
	}
	return nil
}

// present is an error while a stream or object store of the layout is not there.
func present(ctx context.Context, js jetstream.JetStream, l layout) error {
	var names []string
	for _, stream := range l.streams() {
		names = append(names, stream.Name)
	}
	for _, bucket := range l.buckets() {
		names = append(names, "OBJ_"+bucket.Bucket)
	}
	for _, name := range names {
		if err := bounded(ctx, func(ctx context.Context) error { _, err := js.Stream(ctx, name); return err }); err != nil {
			return fmt.Errorf("find the stream %s: %w", name, err)
		}
	}
	return nil
}

func bounded(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestBound)
	defer cancel()
	return request(ctx)
}
