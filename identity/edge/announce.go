package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"lightcone/internal/document"
	"lightcone/internal/retry"
)

// Announcer tells all Directories, by way of Redis, what the management plane has
// changed. It is safe for concurrent use.
type Announcer struct{ redis *Redis }

// NewAnnouncer makes an Announcer. Its Redis stays the caller's, to close.
func NewAnnouncer(redis *Redis) *Announcer { return &Announcer{redis} }

const mostAnnounced = 64 // documents in one round trip

// Announce publishes documents as they were just committed, and leaves them in
// Redis unless a newer version is there; one without a value was deleted. An error says that some may not have been:
// Directories then learn of them from the audit trail, so it is worth a line in
// the log and no more.
func (a *Announcer) Announce(ctx context.Context, documents []document.Document) error {
	now := time.Now()
	for some := range slices.Chunk(documents, mostAnnounced) {
		err := a.redis.guarded(ctx, func(ctx context.Context, client *redis.Client) error {
			_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error { return a.queue(ctx, pipe, some, now) })
			return err
		})
		if err != nil {
			return fmt.Errorf("redis: announce %d documents from %s on: %w", len(some), some[0].Path, err)
		}
	}
	return nil
}

func (a *Announcer) queue(ctx context.Context, pipe redis.Pipeliner, documents []document.Document, now time.Time) error {
	for _, d := range documents {
		k := kept{Path: d.Path, Version: d.Version, Confirmed: now, Document: d.Value}
		message, err := json.Marshal(k)
		if err != nil {
			return err
		}
		a.redis.queuePut(ctx, pipe, k)
		pipe.Publish(ctx, changesChannel, message)
	}
	return nil
}

const (
	silence    = 2 * time.Second // after which the subscription is tried with a ping
	mostSilent = 2               // silences in a row that end it
)

// subscribe hands on what is announced until ctx ends. begun is told each time that
// a subscription begins: what was announced before may have been missed.
func (r *Redis) subscribe(ctx context.Context, begun func(), heard func(context.Context, kept)) {
	for failures := 0; ctx.Err() == nil; failures++ {
		if r.ping(ctx) == nil && r.listen(ctx, begun, heard) {
			failures = 0
		}
		_ = retry.Pause(ctx, retry.BackOff(failures+1, shortestBreak, longestBreak, rand.Float64())) // the loop asks ctx
	}
}

// listen is one subscription; it returns when it ends, and whether it had begun.
func (r *Redis) listen(ctx context.Context, begun func(), heard func(context.Context, kept)) (began bool) {
	client := r.client.Load()
	if client == nil {
		return false
	}
	subscription := client.Subscribe(ctx, changesChannel)
	defer subscription.Close()
	for silences := 0; ctx.Err() == nil; {
		message, err := subscription.ReceiveTimeout(ctx, silence)
		var timeout interface{ Timeout() bool }
		switch {
		case err == nil:
			silences = 0
		case errors.As(err, &timeout) && timeout.Timeout() && silences < mostSilent && subscription.Ping(ctx) == nil:
			silences++
			continue
		default:
			return began
		}
		switch m := message.(type) {
		case *redis.Subscription:
			began = true
			begun()
		case *redis.Message:
			var k kept
			if json.Unmarshal([]byte(m.Payload), &k) == nil && k.Version > 0 { // else not from an Announcer
				heard(ctx, k)
			}
		}
	}
	return began
}
