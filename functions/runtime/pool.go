package runtime

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// spares is how many processes more than slots are kept warm.
const spares = 1

// pool keeps one function's processes and hands them to calls.
type pool struct {
	spec    functions.Spec
	program program
	slots   int
	dir     string
	start   func(*exec.Cmd) error
	logger  *slog.Logger
	metrics *metrics

	places  chan struct{} // one token per call being run: capacity = slots
	queued  queuedPlaces
	closing chan struct{}
	berths  sync.WaitGroup
	crashes atomic.Int64

	mu      sync.Mutex
	idle    []*process                   // ready, the warmest last
	alive   map[*process]chan<- struct{} // every started process, and how to ask its berth to replace it
	waiting []chan<- *process            // calls that have a place and wait for a process, in order
	said    complaints                   // of processes that did not start
}

func newPool(s *Supervisor, spec functions.Spec, program program) *pool {
	slots := s.config.Slots
	p := &pool{
		spec: spec, program: program, slots: slots,
		dir: filepath.Join(s.config.Dir, string(spec.Name)), start: s.launcher.start,
		logger: s.logger.With("function", spec.Name), metrics: s.metrics,
		places: make(chan struct{}, slots), queued: queuedPlaces{born: time.Now()}, closing: make(chan struct{}),
		alive: make(map[*process]chan<- struct{}),
	}
	for i := range slots + spares {
		p.berths.Add(1)
		go p.berth(i)
	}
	return p
}

// berth keeps one process going: starts it, waits for its end, starts the next.
func (p *pool) berth(number int) {
	defer p.berths.Done()
	dir := filepath.Join(p.dir, strconv.Itoa(number))
	for failures := 0; ; {
		process, err := startProcess(p.start, p.spec, p.program, dir, p.closing)
		if errors.Is(err, errClosing) {
			return
		}
		if err != nil {
			delay := restartDelay(failures, rand.Float64())
			failures++
			p.complain(err, delay)
			p.metrics.failedStarts.WithLabelValues(string(p.spec.Name)).Inc()
			pause := time.NewTimer(delay)
			select {
			case <-pause.C:
				continue
			case <-p.closing:
				pause.Stop()
				return
			}
		}
		failures = 0
		retire := make(chan struct{}, 1)
		p.add(process, retire)
		select {
		case <-process.dead:
		case <-retire:
		case <-p.closing:
		}
		p.remove(process)
		process.kill()
		process.discard()
		select {
		case <-p.closing:
			return
		default:
		}
	}
}

// complain logs why a process did not start, unless that has been said of late: every
// berth tries again and again, and each try is counted in the metrics.
func (p *pool) complain(err error, delay time.Duration) {
	p.mu.Lock()
	worth := p.said.worthSaying(err.Error(), time.Now())
	p.mu.Unlock()
	if worth {
		p.logger.Error("a process did not start", "error", err, "again_in", delay)
	}
}

func (p *pool) add(process *process, retire chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive[process] = retire
	p.offer(process)
}

// offer gives a ready process to the call that has waited longest, or shelves
// it. p.mu is held.
func (p *pool) offer(process *process) {
	if len(p.waiting) > 0 {
		p.waiting[0] <- process // buffered: never blocks
		p.waiting = p.waiting[1:]
		return
	}
	p.idle = append(p.idle, process)
}

func (p *pool) remove(process *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.alive, process)
	for i, other := range p.idle {
		if other == process {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// acquire takes the warmest process that is ready, or waits until the deadline, or
// until cancelled is closed, for one that is starting. A nil cancelled never is.
func (p *pool) acquire(deadline time.Time, cancelled <-chan struct{}) (*process, error) {
	p.mu.Lock()
	if count := len(p.idle); count > 0 {
		warmest := p.idle[count-1]
		p.idle = p.idle[:count-1]
		p.mu.Unlock()
		return warmest, nil
	}
	arrival := make(chan *process, 1)
	p.waiting = append(p.waiting, arrival)
	p.mu.Unlock()

	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case process := <-arrival:
		return process, nil
	case <-timer.C:
		err = p.lateForProcess()
	case <-cancelled:
		err = p.endedBefore(deadline)
	case <-p.closing:
		err = problem.New(problem.Overloaded, "This worker is stopping; the call was not run.")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiting {
		if other == arrival {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return nil, err
		}
	}
	p.offer(<-arrival) // it came in the same moment: pass it on
	return nil, err
}

func (p *pool) lateForProcess() error {
	return problem.New(problem.DeadlineExceeded, "No process of the function %s became ready before the call's deadline; it was not run.", p.spec.Name)
}

// release gives a process back after an answer, unless it is to be replaced.
func (p *pool) release(process *process) {
	reason := recycle(p.spec, process.calls, process.resident.Load())
	p.mu.Lock()
	defer p.mu.Unlock()
	if reason == "" {
		p.offer(process)
		return
	}
	p.metrics.recycled.WithLabelValues(string(p.spec.Name)).Inc()
	p.logger.Debug("process replaced", "reason", reason, "calls", process.calls)
	if retire, here := p.alive[process]; here {
		retire <- struct{}{} // buffered, and a process that is not offered again is released no more
	}
}

// run runs a call, or refuses at once when every slot is taken.
func (p *pool) run(call *functions.Call, answer *functions.Answer) error {
	select {
	case p.places <- struct{}{}:
	default:
		p.queued.yield(time.Now())
		return problem.New(problem.Overloaded, "Every slot of the function %s is taken; the call was not run.", p.spec.Name)
	}
	defer func() { <-p.places }()
	process, err := p.acquire(call.Deadline, nil)
	if err != nil {
		return err
	}
	for err = process.run(call, answer); errors.Is(err, errNotSent); err = process.run(call, answer) {
		// It died on the shelf: that is not this call's doing.
		if process, err = p.acquire(call.Deadline, nil); err != nil {
			return err
		}
	}
	return p.settle(process, call, answer, err)
}

// settle accounts for a call that a process was given, and gives the process back
// or up.
func (p *pool) settle(process *process, call *functions.Call, answer *functions.Answer, err error) error {
	p.metrics.cpu.WithLabelValues(string(p.spec.Name)).Add(answer.CPU.Seconds())
	if err == nil {
		p.release(process)
		return nil
	}
	process.kill() // its berth replaces it
	kind := problem.Of(err).Kind
	p.metrics.lost.WithLabelValues(string(p.spec.Name), string(kind)).Inc()
	switch kind {
	case problem.Cancelled:
		p.logger.Info("a call was cancelled, with its process", "call", call.ID, "tenant", call.Tenant)
		return err
	case problem.DeadlineExceeded:
	default:
		p.crashes.Add(1)
	}
	p.logger.Warn("a call cost its process", "call", call.ID, "tenant", call.Tenant, "error", err)
	return err
}

// watch looks at the memory of every process once.
func (p *pool) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for process := range p.alive {
		process.watch()
	}
}

// ready counts the processes that could take a call now.
func (p *pool) ready() (idle, alive int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), len(p.alive)
}

// pids are the live processes' ids.
func (p *pool) pids() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []int
	for process := range p.alive {
		ids = append(ids, process.command.Process.Pid)
	}
	return ids
}

// close kills every process and waits for their berths.
func (p *pool) close() {
	close(p.closing)
	p.berths.Wait()
}
