package main

import (
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// fate is what becomes of a request to the store.
type fate int

const (
	passed    fate = iota // it is done and answered
	refused               // the store answers 500 or 503, and does nothing
	cutBefore             // the connection breaks before the store has it
	cutAfter              // the store does it, and the connection breaks before anybody hears of it
	fates
)

// drawFate lets half of all requests pass, and fail the others in three ways alike.
func drawFate(random *rand.Rand) fate {
	if random.IntN(2) == 0 {
		return passed
	}
	return refused + fate(random.IntN(int(fates-refused)))
}

// failingStore stands in for a store and a network that fail half of all requests:
// it is a proxy before a real S3 server, which does what it lets through.
type failingStore struct {
	server *http.Server
	behind *httputil.ReverseProxy
	ended  chan struct{}

	mu     sync.Mutex
	random *rand.Rand
	counts [fates]int
}

// startFailingStore listens at an address, before the server at another. The same
// seed draws the same fates in the same order.
func startFailingStore(listen, server string, seed uint64) (*failingStore, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0) // broken connections are what it is for
	f := &failingStore{
		behind: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: server})
				r.Out.Host = r.In.Host // it is signed
			},
			Transport: &http.Transport{MaxIdleConnsPerHost: 16},
			ErrorLog:  quiet,
		},
		random: rand.New(rand.NewPCG(seed, 1)),
		ended:  make(chan struct{}),
	}
	f.server = &http.Server{Handler: f, ErrorLog: quiet, ReadHeaderTimeout: callBound}
	go func() {
		defer close(f.ended)
		_ = f.server.Serve(listener) // until stop
	}()
	return f, nil
}

func (f *failingStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	drawn, status := drawFate(f.random), http.StatusInternalServerError
	if f.random.IntN(2) == 0 {
		status = http.StatusServiceUnavailable
	}
	f.counts[drawn]++
	f.mu.Unlock()
	switch drawn {
	case passed:
		f.behind.ServeHTTP(w, r)
	case refused:
		w.WriteHeader(status)
	case cutBefore:
		panic(http.ErrAbortHandler)
	case cutAfter:
		f.behind.ServeHTTP(nowhere{header: make(http.Header)}, r)
		panic(http.ErrAbortHandler)
	}
}

// stop ends the proxy and what it has under way.
func (f *failingStore) stop() error {
	err := f.server.Close()
	<-f.ended
	f.behind.Transport.(*http.Transport).CloseIdleConnections()
	return err
}

// met says how many requests have met each fate.
func (f *failingStore) met() [fates]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// nowhere is where an answer goes that nobody hears.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header            { return n.header }
func (n nowhere) Write(part []byte) (int, error) { return len(part), nil }
func (n nowhere) WriteHeader(int)                {}
