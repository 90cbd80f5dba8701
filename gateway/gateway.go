package gateway

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway/admission"
)

// Worker runs calls.
type Worker interface {
	// Run runs the call and fills answer, appending to answer.Body[:0]. When it
	// returns, nobody reads the call or writes the answer any more. A
	// *problem.Error says why there is no answer; Overloaded means that the call
	// was not started and may be tried again. CPU and Exec are set on failure
	// too, as far as they are known.
	Run(call *functions.Call, answer *functions.Answer) error
	// Functions lists what can be called, and how many calls each runs at once now.
	Functions() []functions.Offer
	// Ready is nil when calls can be run, else why not, in a sentence.
	Ready() error
}

// Callers knows who may call what.
type Callers interface {
	// Authorize finds whose key was presented, whether it may call function, and
	// what its tenant may use. Its errors are problem.Unauthenticated,
	// problem.Forbidden, and problem.Overloaded while nobody can tell.
	Authorize(presented []byte, function lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error)
	// Identify finds whose key was presented, whatever its scopes. Its errors are
	// those of Authorize.
	Identify(presented []byte) (lightcone.TenantID, error)
}

const serverName = "lightcone"

// followEvery is how often the gateway asks the worker what it offers.
const followEvery = 100 * time.Millisecond

// Gateway serves calls. Make one with New, give it listeners with Serve, and
// stop it with Shutdown, once.
type Gateway struct {
	config  Config
	worker  Worker
	callers Callers
	logger  *slog.Logger
	metrics *metrics
	server  *fasthttp.Server

	lanes    atomic.Pointer[map[string]*lane] // copied on change
	budget   budget
	inFlight atomic.Int64
	random   sync.Pool // of *bufio.Reader over crypto/rand
	draining atomic.Bool
	open     context.Context // ends when draining begins: nobody waits any longer for what may also be asked for later
	close    context.CancelFunc

	accepting sync.WaitGroup // one for each listener being served

	mu          sync.Mutex
	closing     bool // no further listener; those there are take what is in their backlog
	stopping    bool // no further connection
	following   bool
	listeners   map[net.Listener]struct{}
	connections map[*connection]struct{}
	owned       int           // goroutines that Shutdown waits for
	stop        chan struct{} // closed when stopping
	stopped     chan struct{} // closed when stopping and owned is 0
}

// New makes a gateway and registers its metrics. It asks the worker at once what
// it offers, but starts nothing.
func New(config Config, worker Worker, callers Callers, registerer prometheus.Registerer, logger *slog.Logger) (*Gateway, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		config:      config,
		worker:      worker,
		callers:     callers,
		logger:      logger,
		budget:      budget{limit: config.MaxBytesInFlight},
		listeners:   make(map[net.Listener]struct{}),
		connections: make(map[*connection]struct{}),
		stop:        make(chan struct{}),
		stopped:     make(chan struct{}),
	}
	g.open, g.close = context.WithCancel(context.Background())
	var err error
	if g.config.Tenants == nil {
		if g.config.Tenants, err = admission.NewTable(admission.DefaultConfig(), time.Now()); err != nil {
			return nil, err
		}
	}
	// One read from the kernel serves the ids of many calls.
	g.random.New = func() any { return bufio.NewReaderSize(rand.Reader, 1000) }
	if g.metrics, err = newMetrics(registerer, g); err != nil {
		return nil, err
	}
	g.lanes.Store(&map[string]*lane{})
	g.follow()
	g.server = &fasthttp.Server{
		Name:          serverName,
		Handler:       g.handle,
		ExpectHandler: g.expect,
		ErrorHandler:  g.malformed,
		ConnState:     g.connectionState,
		Logger:        serverLog{logger},

		Concurrency:     config.MaxConnections + 1, // never reached: accept counts
		ReadBufferSize:  config.MaxHeaderBytes,
		WriteBufferSize: 16 << 10, // an answer of the usual size goes out in one write
		ReadTimeout:     config.HeaderTimeout,
		IdleTimeout:     config.IdleTimeout,

		// With a limit of one byte, fasthttp reads one byte of a body ahead instead
		// of eight thousand, and leaves the rest, and every limit, to this package.
		StreamRequestBody:            true,
		MaxRequestBodySize:           1,
		DisablePreParseMultipartForm: true,
		LazyRequestTime:              true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
	}
	return g, nil
}

// follow takes over what the worker offers now.
func (g *Gateway) follow() {
	now := time.Now()
	old := *g.lanes.Load()
	lanes := maps.Clone(old) // readers hold the old one
	offered := make(map[string]bool, len(old))
	for _, offer := range g.worker.Functions() {
		name := string(offer.Spec.Name)
		offered[name] = true
		if lanes[name] == nil {
			lanes[name] = newLane(offer.Spec.Name, queueRules{
				maxWaiting:     g.config.MaxWaitingCalls,
				maxWait:        g.config.MaxWait,
				initialService: g.config.InitialService,
				retryPause:     retryPause,
			}, g.metrics.forFunction(offer.Spec.Name))
		}
		lanes[name].follow(now, &offer)
	}
	for name, lane := range lanes {
		if !offered[name] {
			lane.follow(now, nil)
		}
	}
	if len(lanes) > len(old) {
		g.lanes.Store(&lanes)
	}
}

// newCallID makes the id of a call that arrives now.
func (g *Gateway) newCallID() lightcone.CallID {
	random := g.random.Get().(*bufio.Reader)
	defer g.random.Put(random)
	id, err := lightcone.NewCallID(time.Now(), random)
	if err != nil {
		panic(err) // crypto/rand never fails: it ends the program instead
	}
	return id
}

var (
	errStopped  = errors.New("gateway: it has been shut down")
	errDraining = errors.New("the gateway is shutting down")
)

// Serve accepts connections until Shutdown, and returns nil once the last one
// has ended; or the error that ended accepting, while open connections go on.
func (g *Gateway) Serve(listener net.Listener) error { return g.serve(listener, nil) }

// ServeTLS is Serve for a listener whose clients speak TLS. One gateway serves any
// number of listeners of both kinds at once.
func (g *Gateway) ServeTLS(listener net.Listener, certificate *Certificate) error {
	return g.serve(listener, certificate)
}

func (g *Gateway) serve(listener net.Listener, certificate *Certificate) error {
	g.mu.Lock()
	if g.closing {
		g.mu.Unlock()
		_ = listener.Close() // it is not going to be used
		return errStopped
	}
	g.listeners[listener] = struct{}{}
	g.accepting.Add(1)
	if !g.following {
		g.following = true
		g.owned++
		go g.keepFollowing()
	}
	g.mu.Unlock()
	err := g.accept(listener, certificate)
	g.accepting.Done()
	if err != nil {
		return err
	}
	<-g.stopped
	return nil
}

// keepFollowing is the goroutine that asks the worker what it offers.
func (g *Gateway) keepFollowing() {
	defer g.disown(nil)
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			g.follow()
		case <-g.stop:
			return
		}
	}
}

// Shutdown fails readiness, waits DrainDelay, stops accepting, lets every call
// that has arrived finish, those in queues included, and returns once all
// connections have ended. Clients that wait for an accepted call's end are told at
// once where to ask for it later. When ctx ends first, it cuts the connections that
// remain and says how many.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.draining.Store(true)
	g.close()
	if g.config.DrainDelay > 0 {
		delay := time.NewTimer(g.config.DrainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
	}
	g.stopAccepting()
	select {
	case <-g.stopped:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.connections {
		conn.cut()
	}
	return fmt.Errorf("gateway: %d connections cut off at the end of the shutdown's time: %w", len(g.connections), ctx.Err())
}

func (g *Gateway) stopAccepting() {
	g.mu.Lock()
	if g.closing {
		g.mu.Unlock()
		return
	}
	g.closing = true
	for listener := range g.listeners {
		finishAccepting(listener)
	}
	g.mu.Unlock()
	g.accepting.Wait()

	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping = true
	close(g.stop)
	for conn := range g.connections {
		conn.closeIfIdle()
	}
	if g.owned == 0 {
		close(g.stopped)
	}
}

// readiness is nil while calls are welcome.
func (g *Gateway) readiness() error {
	if g.draining.Load() {
		return errDraining
	}
	if g.config.CallersReady != nil {
		if err := g.config.CallersReady(); err != nil {
			return err
		}
	}
	return g.worker.Ready()
}
