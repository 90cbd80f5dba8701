package queue

import (
	"time"
	_ "unsafe" // for linkname: the server has no setting for these
)

// How soon the others notice that a leader is silent, and elect another. The server's
// own 4 to 9 s are for clusters over continents; a queue's nodes are a millisecond
// apart. Too short costs elections on a busy machine, and never what was accepted:
// that does not depend on time.
const (
	heartbeatEvery = 500 * time.Millisecond // the server's: 1 s
	electionAfter  = 2 * time.Second
	electionMost   = 4 * time.Second
)

//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

// The server reads them when it starts; nobody else changes them.
var electionDefaults = [...]time.Duration{minElectionTimeout, maxElectionTimeout, hbInterval}

func init() {
	minElectionTimeout, maxElectionTimeout, hbInterval = electionAfter, electionMost, heartbeatEvery
}
