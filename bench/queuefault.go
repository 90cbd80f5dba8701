package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"lightcone/queue"
)

// measureFailover kills each node in its turn, with SIGKILL, and so whoever leads, and
// takes the longest time in which nothing was accepted.
func measureFailover(ctx context.Context, s settings, r *report, n *nodes, client *queue.Client) error {
	var gaps []float64
	for range max(s.rounds/2, 1) {
		longest := 0.0
		for i := range n.children {
			gap, err := gapOf(ctx, n, client, i)
			if err != nil {
				return err
			}
			longest = max(longest, gap)
		}
		gaps = append(gaps, longest)
	}
	r.add("queue", "longest time without an acceptance, any node killed", "s", "under 5", gaps...)
	return nil
}

// gapOf is the longest time between two acceptances, one after the other, around the
// death of a node, in seconds.
func gapOf(ctx context.Context, n *nodes, client *queue.Client, i int) (float64, error) {
	body := make([]byte, kilobyte)
	if _, err := rand.Read(body); err != nil {
		return 0, err
	}
	began, last, longest := time.Now(), time.Now(), time.Duration(0)
	killed := false
	for time.Since(began) < 8*time.Second || time.Since(last) > time.Second {
		if !killed && time.Since(began) > time.Second {
			killed = true
			_ = n.children[i].command.Process.Kill()
			<-n.children[i].ended
		}
		if time.Since(last) > time.Minute {
			return 0, fmt.Errorf("for a minute after node %d was killed, nothing was accepted", i)
		}
		// A refusal is what the gap is made of; it may come at once.
		if err := acceptOne(ctx, client, body); err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		longest = max(longest, time.Since(last))
		last = time.Now()
	}
	if err := n.start(i); err != nil {
		return 0, err
	}
	time.Sleep(5 * time.Second) // it takes up what it missed; a measurement waits for that, no test
	return longest.Seconds(), n.await(ctx, client)
}

// measureBacklog has a great many calls accepted before they are run, and runs them.
func measureBacklog(ctx context.Context, r *report, n *nodes, client *queue.Client) error {
	const section = "queue"
	early, err := n.resident()
	if err != nil {
		return err
	}
	accepted, err := waiting(ctx, client)
	if err != nil {
		return err
	}
	begun := accepted
	for accepted < backlogSize {
		seen, err := accept(ctx, client, kilobyte, acceptors, 0, 2*time.Second)
		if err != nil {
			return err
		}
		accepted += int(seen.TotalCount())
	}
	full, err := n.resident()
	if err != nil {
		return err
	}
	most, half := full, 0.0
	began := time.Now()
	err = working(ctx, client, func() error {
		for ctx.Err() == nil {
			left, err := waiting(ctx, client)
			if err == nil && left == 0 {
				return nil
			}
			now, err := n.resident()
			if err != nil {
				return err
			}
			most = max(most, now)
			if half == 0 && left < accepted/2 {
				half = now
			}
			time.Sleep(time.Second)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	fmt.Printf("  (a backlog of %d calls of 1 KB was run in %.0f s)\n", accepted, took)
	r.add(section, "a backlog is run by one worker process", "/s", "", float64(accepted)/took)
	r.add(section, fmt.Sprintf("memory of three nodes, with a backlog of %d", begun), "MiB", "", early)
	r.add(section, "memory of three nodes, with the whole backlog", "MiB", "", full)
	r.add(section, "memory of three nodes, with half of it run", "MiB", "", half)
	r.add(section, "memory of three nodes, the most while it was run", "MiB", "flat", most)
	return nil
}
