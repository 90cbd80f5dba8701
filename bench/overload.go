package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// overloadFactor is the offered load over the measured capacity.
const overloadFactor = 3

// overloadConnections is more than can wait and run at once, and few enough that
// each stays in use, as a load balancer's do: what TCP spends on connections that
// went idle is not what is measured.
const overloadConnections = 64

// measureOverload is (d): three times the capacity offered at a fixed rate,
// whatever becomes of the calls.
func measureOverload(ctx context.Context, s settings, r *report) error {
	photo, err := os.ReadFile(s.photo)
	if err != nil {
		return err
	}
	t, err := startTree(ctx)
	if err != nil {
		return err
	}
	defer t.stop()
	r.heading(fmt.Sprintf("(d) overload: %d times the capacity offered, open loop", overloadFactor))
	message, err := newRequest(t.api, resizePath, t.key, photo)
	if err != nil {
		return err
	}
	defer message.close()
	closedLoop(ctx, t.api, message, 2*r.Cores, time.Second, maxCalls) // warm
	var peak, offered, goodput, p99, refusal50, refusal99, refusalMost, share, doorShare, loadShare []float64
	for range s.rounds {
		capacity := closedLoop(ctx, t.api, message, 2*r.Cores, s.duration, maxCalls)
		if err := capacity.check(); err != nil {
			return err
		}
		load := overloadFactor * capacity.rate()
		before, err := t.shares()
		if err != nil {
			return err
		}
		seen := openLoop(ctx, t.api, message, overloadConnections, s.duration, load)
		after, err := t.shares()
		if err = errors.Join(err, seen.check()); err != nil {
			return err
		}
		cores := float64(r.Cores) * seen.elapsed.Seconds()
		doorShare = append(doorShare, 100*(after.door-before.door).Seconds()/cores)
		loadShare = append(loadShare, 100*(after.load-before.load).Seconds()/cores)
		if seen.refused.TotalCount() == 0 {
			return fmt.Errorf("%.0f calls/s were offered and none refused: this was no overload", load)
		}
		peak = append(peak, capacity.rate())
		offered = append(offered, float64(seen.answered.TotalCount()+seen.refused.TotalCount())/seen.elapsed.Seconds())
		goodput = append(goodput, seen.rate())
		p99 = append(p99, milliseconds(seen.answered, 99))
		refusal50 = append(refusal50, milliseconds(seen.refused, 50))
		refusal99 = append(refusal99, milliseconds(seen.refused, 99))
		refusalMost = append(refusalMost, float64(seen.refused.Max())/1000)
		share = append(share, seen.rate()/capacity.rate())
	}
	const section = "overload"
	r.add(section, "peak: answered without overload", "/s", "", peak...)
	r.add(section, "offered", "/s", "", offered...)
	r.add(section, "goodput: answered", "/s", "", goodput...)
	r.add(section, "goodput : peak", "x", "at least 0.9", share...)
	r.add(section, "p99 of the answered", "ms", "under 500", p99...)
	r.add(section, "time to refuse, p50", "ms", "", refusal50...)
	r.add(section, "time to refuse, p99", "ms", "under 50", refusal99...)
	r.add(section, "time to refuse, the longest", "ms", "", refusalMost...)
	r.add(section, "gateway and supervisor, share of all cores", "%", "", doorShare...)
	r.add(section, "the load itself, share of all cores", "%", "", loadShare...)
	return nil
}

// shares is the CPU time used so far by the front door and by this program.
type shares struct{ door, load time.Duration }

func (t *tree) shares() (s shares, err error) {
	if s.door, err = cpuOf(t.pid()); err != nil {
		return s, err
	}
	s.load, err = cpuOf(os.Getpid())
	return s, err
}
