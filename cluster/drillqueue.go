package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"lightcone"
	"lightcone/internal/retry"
)

const (
	// queuedRate are the calls that are queued each second, beside the others.
	queuedRate = 10
	// endBound is within what all accepted calls must have ended once all is well: a
	// call whose worker went silent is taken again after 15 s, and may wait to be tried.
	endBound = 2 * time.Minute
	// leastAccepted is the least share of calls, in percent, that the queue must take:
	// while it elects a leader, it takes none.
	leastAccepted = 80.0
)

// cutRackQueued pulls the cable of a rack that has a node of the queue, while calls are
// queued and run.
func (d *drills) cutRackQueued(ctx context.Context) error {
	return d.queued(ctx, func() error { return d.cutRack(ctx) })
}

// killQueueNodes kills each node of the queue in its turn, and so its leader, too.
func (d *drills) killQueueNodes(ctx context.Context) error {
	return d.queued(ctx, func() error {
		nodes, err := d.running(ctx, "queue")
		if err != nil {
			return err
		}
		for _, node := range nodes {
			if err := d.nomad.Signal(ctx, node.ID, "queue", "SIGKILL"); err != nil {
				return err
			}
			// It is missed, and comes back.
			if err := retry.Pause(ctx, 5*time.Second); err != nil {
				return err
			}
			if err := d.awaitInstances(ctx, "queue", len(nodes), time.Minute); err != nil {
				return err
			}
		}
		return nil
	})
}

// queued queues calls while do runs, and then waits until each that was accepted has
// ended: with a result, or it fails.
func (d *drills) queued(ctx context.Context, do func() error) error {
	body, err := os.ReadFile(sample)
	if err != nil {
		return err
	}
	b := backlog{key: d.key, body: body}
	done := make(chan struct{})
	loading, stop := context.WithCancel(ctx)
	go func() {
		defer close(done)
		b.load(loading)
	}()
	err = do()
	stop()
	<-done
	if err != nil {
		return err
	}
	began := time.Now()
	ended, err := b.await(ctx, endBound)
	if err != nil {
		return err
	}
	d.note("queued: %d calls sent, %d accepted, %d ended with a result, the last %.0f s after the last was sent; longest time without an acceptance %.1f s",
		b.sent, len(b.accepted), ended, time.Since(began).Seconds(), b.gap.Seconds())
	for failure, times := range b.failures {
		d.note("queued: %d calls: %s", times, failure)
	}
	if ended != len(b.accepted) {
		return fmt.Errorf("%d calls were accepted, and %d ended with a result", len(b.accepted), ended)
	}
	if share := 100 * float64(len(b.accepted)) / float64(max(b.sent, 1)); share < leastAccepted {
		return fmt.Errorf("of %d calls %.1f %% were accepted, less than %.0f %%: %v", b.sent, share, leastAccepted, b.failures)
	}
	return nil
}

// backlog is calls that were queued, and what became of each.
type backlog struct {
	key  string
	body []byte

	mu       sync.Mutex // guards the rest
	sent     int
	accepted []string // where each is to be asked for
	failures map[string]int
	last     time.Time     // of an acceptance
	gap      time.Duration // the longest between two
}

// load queues calls at a steady rate until ctx ends; none is tried twice.
func (b *backlog) load(ctx context.Context) {
	b.failures = make(map[string]int)
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	var calls sync.WaitGroup
	ticker := time.NewTicker(time.Second / queuedRate)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			calls.Wait()
			return
		case <-ticker.C:
		}
		calls.Go(func() {
			location, err := b.enqueue(client)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.sent++
			if err != nil {
				b.failures[err.Error()]++
				return
			}
			b.accepted = append(b.accepted, location)
			now := time.Now()
			if !b.last.IsZero() {
				b.gap = max(b.gap, now.Sub(b.last))
			}
			b.last = now
		})
	}
}

// enqueue queues one call and says where its state is.
func (b *backlog) enqueue(client *http.Client) (string, error) {
	request, err := http.NewRequest(http.MethodPost, frontDoorURL+"/async-function/resize?width=300", bytes.NewReader(b.body))
	if err != nil {
		return "", err
	}
	request.GetBody = nil
	request.Header.Set("Authorization", "Bearer "+b.key)
	response, err := client.Do(request)
	if err != nil {
		return "", errors.New(reason(err))
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	switch location := response.Header.Get("Location"); {
	case err != nil:
		return "", errors.New("the answer broke off")
	case response.StatusCode != http.StatusAccepted:
		return "", fmt.Errorf("%d %s", response.StatusCode, detail(text))
	case location == "":
		return "", errors.New("202 without a Location")
	default:
		return location, nil
	}
}

// await waits until every accepted call has ended, and counts those with a result.
func (b *backlog) await(ctx context.Context, bound time.Duration) (succeeded int, err error) {
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for _, location := range b.accepted {
		for {
			status, err := b.statusAt(ctx, client, location)
			if err == nil && status.Final() {
				if status == lightcone.InvocationSucceeded {
					succeeded++
				}
				break
			}
			if pause := retry.Pause(ctx, 200*time.Millisecond); pause != nil {
				return succeeded, fmt.Errorf("%s is %q (%v) and has not ended", location, status, err)
			}
		}
	}
	return succeeded, nil
}

func (b *backlog) statusAt(ctx context.Context, client *http.Client, location string) (lightcone.InvocationStatus, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, frontDoorURL+location, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+b.key)
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", response.StatusCode)
	}
	var document struct{ Status lightcone.InvocationStatus }
	err = json.NewDecoder(response.Body).Decode(&document)
	return document.Status, err
}
