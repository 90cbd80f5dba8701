package gateway

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/functions"
)

// TestGatewaysShareAFullFleet offers several gateways together more than their common
// workers can do. Each counts all slots as its own, so each is refused all the time:
// still the slots stay busy, the workers are not asked much more often than they
// answer, and what is answered is answered in time.
func TestGatewaysShareAFullFleet(t *testing.T) {
	const (
		gateways, workers, slots = 4, 8, 4
		mean                     = 10 * time.Millisecond
		trip                     = 200 * time.Microsecond
		load                     = 2
		length                   = 4 * time.Second
	)
	synctest.Test(t, func(t *testing.T) {
		var remotes []*remote
		var members []Member
		for i := range workers {
			remotes = append(remotes, newRemote(slots, trip, func(call *functions.Call, answer *functions.Answer) error {
				time.Sleep(time.Duration(rand.ExpFloat64() * float64(mean)))
				return echo(call, answer)
			}))
			members = append(members, Member{string(rune('a' + i)), remotes[i]})
		}
		var mu sync.Mutex
		var took []time.Duration
		shed := 0
		answered := make([]int, gateways)
		stop := make(chan struct{})
		var ticking, calls sync.WaitGroup
		every := func(period time.Duration, do func()) {
			ticking.Go(func() {
				for {
					select {
					case <-time.After(period):
						do()
					case <-stop:
						return
					}
				}
			})
		}
		for _, r := range remotes {
			every(250*time.Millisecond, r.poll)
		}
		for i := range gateways {
			registry := prometheus.NewRegistry()
			g := newTestGateway(t, newTestFleet(t, registry, members), registry)
			every(followEvery, g.follow)
			lane := (*g.lanes.Load())["echo"]
			every(mean*gateways/(load*workers*slots), func() {
				c := &call{ticket: ticket{deadline: time.Now().Add(5 * time.Second), turn: make(chan struct{}, 1)}}
				c.request = functions.Call{Function: "echo", Deadline: c.ticket.deadline}
				calls.Go(func() {
					joined := time.Now()
					ran, err := g.run(c, lane)
					mu.Lock()
					defer mu.Unlock()
					if !ran {
						shed++
					} else if err != nil || c.answer.Status != http.StatusOK {
						t.Errorf("answered %d, %v", c.answer.Status, err)
					} else {
						took = append(took, time.Since(joined))
						answered[i]++
					}
				})
			})
		}
		time.Sleep(length)
		close(stop)
		ticking.Wait()
		calls.Wait()
		tries := int64(0)
		for _, r := range remotes {
			tries += r.tries.Load()
			if r.most.Load() > slots {
				t.Errorf("a worker ran %d calls on %d slots", r.most.Load(), slots)
			}
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		fit := int(length / (mean + 2*trip) * workers * slots)
		perAnswer := float64(tries) / float64(len(took))
		t.Logf("answered %d of %d that fit, %v a gateway, 99 of 100 within %v; refused %d; %.2f tries an answer",
			len(took), fit, answered, p99, shed, perAnswer)
		if len(took) < fit*95/100 {
			t.Errorf("%d calls were answered, %d fit", len(took), fit)
		}
		if p99 >= 500*time.Millisecond {
			t.Errorf("99 of 100 answered calls took up to %v", p99)
		}
		if perAnswer > 3 {
			t.Errorf("the workers were asked %.1f times for each answer", perAnswer)
		}
		for i, n := range answered {
			if n < len(took)/gateways/2 {
				t.Errorf("gateway %d answered %d calls of %d", i, n, len(took))
			}
		}
	})
}
