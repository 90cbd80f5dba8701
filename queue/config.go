package queue

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// InProcess is a node in this process, reached without a socket.
type InProcess interface {
	InProcessConn() (net.Conn, error)
}

// Config says how a client finds the queue's nodes, and the bounds that all clients
// of one queue have to agree on.
type Config struct {
	Servers   []string  // host:port of the nodes' client listeners; not used with InProcess
	InProcess InProcess // the one node of `lightcone dev`, or nil

	User, Password string
	TLS            *tls.Config // nil = no TLS: loopback and tests

	Name     string // who this is, in the nodes' logs
	Replicas int    // copies of everything: 1 for one node, 3 for three; 0 = 1
	Guest    bool   // the streams are others' to make and to change: this client waits until they are there
	Limits   Limits // a zero field has its default
	Logger   *slog.Logger
}

// Limits bound what the queue holds and how long it tries. The zero value of a field
// means its default. TenantShare, MaxCalls, MaxBytes and Keep belong to the streams: clients that say something
// else change them for all.
type Limits struct {
	TenantShare int           // most calls that one tenant may have queued for one function; 20 000
	MaxCalls    int64         // most calls queued in all; 1 000 000
	MaxBytes    int64         // most bytes of queued calls, and of each of the six other things that are kept: a node needs seven times that as MaxStoreBytes; 8 GiB
	KeptShare   float64       // most that one tenant may have of each kind of thing that is kept, as a part of MaxBytes; of those who tend the queue theirs counts; 0.25
	Keep        time.Duration // how long the state and the result of a finished call stay; 24 h

	MaxAge   time.Duration // a call that is older is not run any more; 6 h
	Attempts int           // times that a function is given a call before it is dead; 4
	Silence  time.Duration // a call whose worker is silent for so long is taken again; a third of it passes between heartbeats; 15 s

	BackOffBase time.Duration // ceiling of the first wait before a call is tried again; 1 s
	BackOffMost time.Duration // and of every wait; 2 min
	Patience    time.Duration // how long a call to the queue goes on trying when its context has no deadline; 10 s
}

// The fixed sizes of the queue.
const (
	// Lanes is how many FIFO lanes each function has.
	Lanes = 8
	// LanesPerTenant is how many of them a tenant's calls go to.
	LanesPerTenant = 2
	// MostInline is the longest input or result, in bytes, that rides in a message;
	// longer ones go to the object store.
	MostInline = 1 << 20
	// DeadKeep is how long a dead letter stays.
	DeadKeep = 14 * 24 * time.Hour
)

// withDefaults fills what was left out.
func (l Limits) withDefaults() Limits {
	l.TenantShare = cmp.Or(l.TenantShare, 20_000)
	l.MaxCalls = cmp.Or(l.MaxCalls, 1_000_000)
	l.MaxBytes = cmp.Or(l.MaxBytes, 8<<30)
	l.KeptShare = cmp.Or(l.KeptShare, 0.25)
	l.Keep = cmp.Or(l.Keep, 24*time.Hour)
	l.MaxAge = cmp.Or(l.MaxAge, 6*time.Hour)
	l.Silence = cmp.Or(l.Silence, 15*time.Second)
	l.Attempts = cmp.Or(l.Attempts, 4)
	l.BackOffBase = cmp.Or(l.BackOffBase, time.Second)
	l.BackOffMost = cmp.Or(l.BackOffMost, 2*time.Minute)
	l.Patience = cmp.Or(l.Patience, 10*time.Second)
	return l
}
