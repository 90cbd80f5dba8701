package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"lightcone"
	"lightcone/internal/retry"
)

const (
	// callers are the calls that are under way at once.
	callers = 12
	// callBound is how long one may take: longer than its deadline.
	callBound = 30 * time.Second
	// longestBody is the longest input, in bytes: the load is there for its number.
	longestBody = 400
)

// course is how far the calls have come, and how far they may go before the next
// kill is done: so kills are spread over all calls, whatever the machine's speed.
type course struct {
	mu     sync.Mutex
	moved  *sync.Cond
	total  int
	sent   int
	limit  int
	halted bool
}

func newCourse(total int) *course {
	c := &course{total: total}
	c.moved = sync.NewCond(&c.mu)
	return c
}

// next waits until one more call may be made, and says whether there is one.
func (c *course) next() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sent >= c.limit && c.sent < c.total && !c.halted {
		c.moved.Wait()
	}
	if c.halted || c.sent >= c.total {
		return false
	}
	c.sent++
	c.moved.Broadcast()
	return true
}

// reach waits until so many calls have been begun; false means that they will not.
func (c *course) reach(sent int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sent < sent && !c.halted {
		c.moved.Wait()
	}
	return !c.halted
}

// allow lets so many calls be made in all.
func (c *course) allow(limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.moved.Broadcast()
}

// halt ends it: no further call is begun.
func (c *course) halt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = true
	c.moved.Broadcast()
}

// heard is what the clients know of their calls.
type heard struct {
	answered map[lightcone.CallID]spent
	refused  []lightcone.CallID
	unknown  int
	first    error // what a refusal said, for who wonders
}

// add takes in what another has heard. An id that comes twice is an error.
func (h *heard) add(more heard) error {
	for call, used := range more.answered {
		if _, twice := h.answered[call]; twice {
			return fmt.Errorf("the id %s was given to two calls", call)
		}
		h.answered[call] = used
	}
	h.refused = append(h.refused, more.refused...)
	h.unknown += more.unknown
	if h.first == nil {
		h.first = more.first
	}
	return nil
}

// load makes calls over all gateways until the course is run.
func (r *region) load(ctx context.Context, c *course, seed uint64) (heard, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: callBound}
	var running sync.WaitGroup
	parts, failures := make([]heard, callers), make([]error, callers)
	for i := range callers {
		running.Go(func() {
			one := caller{region: r, client: client, random: rand.New(rand.NewPCG(seed, uint64(10+i))), turn: i}
			one.answered = make(map[lightcone.CallID]spent)
			for failures[i] == nil && c.next() {
				failures[i] = one.call(ctx)
			}
			if failures[i] != nil {
				c.halt()
			}
			parts[i] = one.heard
		})
	}
	running.Wait()
	all := heard{answered: make(map[lightcone.CallID]spent)}
	for _, part := range parts {
		failures = append(failures, all.add(part))
	}
	return all, errors.Join(failures...)
}

// caller makes one call after the other.
type caller struct {
	heard
	region *region
	client *http.Client
	random *rand.Rand
	turn   int // which gateway is next
}

// call makes one call, at the first gateway that takes its connection, and notes
// what came of it.
func (c *caller) call(ctx context.Context) error {
	body := make([]byte, 1+c.random.IntN(longestBody))
	for i := range body {
		body[i] = byte(c.random.Uint32())
	}
	for ctx.Err() == nil {
		c.turn++
		gateway := c.region.gateways[c.turn%gatewayCount]
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+gateway.listen+"/function/"+function, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+c.region.key)
		response, err := c.client.Do(request)
		if dialing := new(net.OpError); errors.As(err, &dialing) && dialing.Op == "dial" { // nobody has heard of it
			_ = retry.Pause(ctx, 5*time.Millisecond)
			continue
		}
		if err != nil {
			c.unknown++
			return ctx.Err()
		}
		said, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		return c.note(response, body, said, err)
	}
	return ctx.Err()
}

// note notes an answer. One whose body was cut off counts: its head left after the
// record was made.
func (c *caller) note(response *http.Response, sent, said []byte, cut error) error {
	call, err := lightcone.ParseCallID(response.Header.Get("X-Call-Id"))
	if err != nil {
		return fmt.Errorf("an answer's X-Call-Id: %w", err)
	}
	used := spent{BytesIn: int64(len(sent))}
	switch {
	case response.StatusCode == http.StatusOK:
		if cut == nil && !bytes.Equal(said, sent) {
			return fmt.Errorf("call %s: the answer is not what was sent", call)
		}
		used.BytesOut = int64(len(sent))
	case response.Header.Get("X-Lightcone-Error") == "function": // which it pays for
	default:
		c.refused = append(c.refused, call)
		if c.first == nil {
			c.first = fmt.Errorf("%s: %s", response.Status, said)
		}
		return retry.Pause(context.Background(), 20*time.Millisecond) // there is no room, or no worker
	}
	if used.CPU, err = cpuOf(response.Header.Get("Server-Timing")); err != nil {
		return fmt.Errorf("call %s: %w", call, err)
	}
	if _, twice := c.answered[call]; twice {
		return fmt.Errorf("the id %s was given to two calls", call)
	}
	c.answered[call] = used
	return nil
}

// cpuOf is the CPU time in a Server-Timing header: milliseconds with three decimals,
// read without a float.
func cpuOf(timing string) (time.Duration, error) {
	_, text, found := strings.Cut(timing, "cpu;dur=")
	whole, decimals, point := strings.Cut(text, ".")
	micros, err := strconv.ParseInt(whole+decimals, 10, 64)
	if !found || !point || len(decimals) != 3 || err != nil || micros < 0 {
		return 0, fmt.Errorf("the Server-Timing %q does not end with the CPU time in milliseconds, with three decimals", timing)
	}
	return time.Duration(micros) * time.Microsecond, nil
}
