package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// Config says what a supervisor runs.
type Config struct {
	Functions []functions.Spec
	Slots     int    // calls at once, for each function; one per core makes CPU time and wall time agree
	Dir       string // a folder of its own for the sockets; emptied at start; at most 80 bytes long
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
}

// maxDirBytes leaves room for /function/berth/s in a Unix socket's path, which
// the kernel bounds to 107 bytes: unix(7).
const maxDirBytes = 80

// watchInterval is how often the processes' memory is looked at: how long one
// can be over its bound where RLIMIT_DATA does not hold it.
const watchInterval = 100 * time.Millisecond

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case len(c.Functions) == 0:
		return fmt.Errorf("runtime: no function to run")
	case c.Slots < 1 || c.Slots > 1024:
		return fmt.Errorf("runtime: %d slots: want 1 to 1024", c.Slots)
	case len(c.Dir) == 0 || c.Dir[0] != '/' || len(c.Dir) > maxDirBytes:
		return fmt.Errorf("runtime: folder %q for the functions' sockets: want an absolute path of at most %d bytes (a Unix socket's path is bounded)", c.Dir, maxDirBytes)
	}
	seen := make(map[lightcone.FunctionName]bool)
	for _, spec := range c.Functions {
		if err := spec.Validate(); err != nil {
			return err
		}
		if len(spec.Name) > 16 {
			return fmt.Errorf("function %q: at most 16 bytes fit the path of its socket", spec.Name)
		}
		if seen[spec.Name] {
			return fmt.Errorf("function %s is declared twice", spec.Name)
		}
		seen[spec.Name] = true
	}
	return nil
}

// Supervisor runs functions. Its methods may be called from many goroutines;
// Close once, after the last Run has returned.
type Supervisor struct {
	config    Config
	logger    *slog.Logger
	metrics   *metrics
	launcher  *launcher
	pools     map[lightcone.FunctionName]*pool
	stopWatch chan struct{}
	watching  sync.WaitGroup
}

// Start finds out how far processes can be confined here and starts them. It
// returns before they are ready: see Ready.
func Start(config Config) (*Supervisor, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("runtime: find this executable, which confines the processes: %w", err)
	}
	if err := prepareDir(config.Dir); err != nil {
		return nil, err
	}
	s := &Supervisor{
		config: config, logger: config.Logger, metrics: newMetrics(config.Metrics),
		pools:     make(map[lightcone.FunctionName]*pool),
		stopWatch: make(chan struct{}),
	}
	programs := make([]program, len(config.Functions))
	for i, spec := range config.Functions {
		if programs[i], err = probe(executable, spec, config.Dir); err != nil {
			return nil, fmt.Errorf("runtime: %w", err)
		}
		s.logger.Info("function confined", "function", spec.Name, "isolation", programs[i].level.String())
	}
	s.launcher = newLauncher()
	for i, spec := range config.Functions {
		s.metrics.cpu.WithLabelValues(string(spec.Name)) // there from the start: 0 is an answer, too
		s.pools[spec.Name] = newPool(s, spec, programs[i])
	}
	s.watching.Add(1)
	go s.watch()
	return s, nil
}

// prepareDir empties the folder: what is in it belonged to processes that died
// with an earlier supervisor.
func prepareDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("runtime: empty the sockets' folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return fmt.Errorf("runtime: make the sockets' folder: %w", err)
	}
	// Mkdir and not MkdirAll: in a folder that all users share, what somebody
	// else has put there must be an error.
	if err := os.Mkdir(dir, 0o711); err != nil {
		return fmt.Errorf("runtime: make the sockets' folder: %w", err)
	}
	return nil
}

func (s *Supervisor) watch() {
	defer s.watching.Done()
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, pool := range s.pools {
				pool.watch()
			}
		case <-s.stopWatch:
			return
		}
	}
}

// Run runs a call to its end and fills answer, whose Body it appends to. The
// error is a *problem.Error: NotFound and Overloaded mean that the call was not
// started; DeadlineExceeded, FunctionCrashed, OutOfMemory and FunctionFailed
// cost the process, and answer's CPU and Exec say what was used until then.
func (s *Supervisor) Run(call *functions.Call, answer *functions.Answer) error {
	pool, here := s.pools[call.Function]
	if !here {
		return problem.New(problem.NotFound, "There is no function named %q.", call.Function)
	}
	answer.CPU, answer.Exec = 0, 0
	return pool.run(call, answer)
}

// Functions lists what can be called, in the order it was declared.
func (s *Supervisor) Functions() []functions.Offer {
	offers := make([]functions.Offer, 0, len(s.config.Functions))
	for _, spec := range s.config.Functions {
		offers = append(offers, functions.Offer{Spec: spec, Slots: s.config.Slots})
	}
	return offers
}

// Ready is nil while any function has a live process: one that does not start
// must not take the others away. Status tells of each.
func (s *Supervisor) Ready() error {
	for _, pool := range s.pools {
		if _, alive := pool.ready(); alive > 0 {
			return nil
		}
	}
	return errors.New("no process of any function is ready")
}

// Status is what /readyz shows of one function.
type Status struct {
	Function  lightcone.FunctionName `json:"function"`
	Slots     int                    `json:"slots"`
	Processes int                    `json:"processes"` // live; slots and one spare when all is well
	Idle      int                    `json:"idle"`
	Queued    int                    `json:"queued"`  // slots that queued calls hold
	Crashes   int64                  `json:"crashes"` // processes lost to a call, deadlines and cancellations not counted
	Isolation string                 `json:"isolation"`
	PIDs      []int                  `json:"pids"`
}

// Status reports every function.
func (s *Supervisor) Status() []Status {
	all := make([]Status, 0, len(s.config.Functions))
	for _, spec := range s.config.Functions {
		pool := s.pools[spec.Name]
		idle, alive := pool.ready()
		all = append(all, Status{
			Function: spec.Name, Slots: s.config.Slots, Processes: alive, Idle: idle, Queued: pool.queued.held(),
			Crashes: pool.crashes.Load(), Isolation: pool.program.level.String(), PIDs: pool.pids(),
		})
	}
	return all
}

// Isolation is how far the processes of a declared function are confined.
func (s *Supervisor) Isolation(name lightcone.FunctionName) Isolation {
	return s.pools[name].program.level
}

// Close kills every process, waits until they and every goroutine are gone, and
// removes the folder.
func (s *Supervisor) Close() error {
	close(s.stopWatch)
	s.watching.Wait()
	for _, pool := range s.pools {
		pool.close()
	}
	s.launcher.close()
	return os.RemoveAll(s.config.Dir)
}
