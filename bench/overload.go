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
	t, message, err := startResizing(ctx, s.photo)
	if err != nil {
		return err
	}
	defer t.stop()
	defer message.close()
	r.heading(fmt.Sprintf("(d) overload: %d times the capacity offered, open loop", overloadFactor))
	closedLoop(ctx, t.api, message, 2*r.Cores, time.Second, maxCalls) // warm
	var peak, offered, goodput, p99, refusal50, refusal99, refusalMost, share, left, doorShare, loadShare []float64
	for range s.rounds {
		capacity, calm, err := t.measured(r.Cores, func() *outcome {
			return closedLoop(ctx, t.api, message, 2*r.Cores, s.duration, maxCalls)
		})
		if err != nil {
			return err
		}
		load := overloadFactor * capacity.rate()
		seen, busy, err := t.measured(r.Cores, func() *outcome {
			return openLoop(ctx, t.api, message, overloadConnections, s.duration, load)
		})
		if err != nil {
			return err
		}
		doorShare = append(doorShare, 100*busy.door)
		loadShare = append(loadShare, 100*busy.load)
		left = append(left, seen.rate()/(1-busy.load)/(capacity.rate()/(1-calm.load)))
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
	r.add(section, "goodput : peak, on the cores that the load leaves", "x", "", left...)
	r.add(section, "p99 of the answered", "ms", "under 500", p99...)
	r.add(section, "time to refuse, p50", "ms", "", refusal50...)
	r.add(section, "time to refuse, p99", "ms", "under 50", refusal99...)
	r.add(section, "time to refuse, the longest", "ms", "", refusalMost...)
	r.add(section, "gateway and supervisor, share of all cores", "%", "", doorShare...)
	r.add(section, "the load itself, share of all cores", "%", "", loadShare...)
	return nil
}

// shares are parts of all cores: what the front door used, and this program.
type shares struct{ door, load float64 }

// measured runs a load and says what it and the front door took of the cores.
func (t *tree) measured(cores int, run func() *outcome) (*outcome, shares, error) {
	used := func() (door, load time.Duration, err error) {
		door, err = cpuOf(t.pid())
		load, own := cpuOf(os.Getpid())
		return door, load, errors.Join(err, own)
	}
	door, load, err := used()
	if err != nil {
		return nil, shares{}, err
	}
	seen := run()
	doorAfter, loadAfter, err := used()
	all := float64(cores) * seen.elapsed.Seconds()
	return seen, shares{door: (doorAfter - door).Seconds() / all, load: (loadAfter - load).Seconds() / all}, errors.Join(err, seen.check())
}
