package edge

import (
	"sync"
	"time"
)

// changes are those lately heard of: a store that lags, or Redis, may still hold
// what was there before.
type changes struct {
	keep time.Duration // longer than a store lags, and than Redis is believed unasked

	mu    sync.Mutex
	noted map[string]change
}

type change struct {
	version uint64
	at      instant
}

const mostChanges = 20_000

func newChanges(keep time.Duration) *changes {
	return &changes{keep: keep, noted: make(map[string]change)}
}

// note keeps in mind that the document at path has reached a version. It is false
// when there was too much to keep in mind, and all of it has been forgotten.
func (c *changes) note(path string, version uint64, now instant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noted[path].version > version {
		return true
	}
	c.noted[path] = change{version, now}
	if len(c.noted) <= mostChanges {
		return true
	}
	for path, change := range c.noted {
		if now-change.at > int64(c.keep) {
			delete(c.noted, path)
		}
	}
	if len(c.noted) <= mostChanges/2 { // else the next ones would each search all of it
		return true
	}
	clear(c.noted)
	return false
}

// of is the version that the document at path is known to have reached; 0 when
// nothing was heard of it lately.
func (c *changes) of(path string, now instant) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	noted, there := c.noted[path]
	if there && now-noted.at > int64(c.keep) {
		delete(c.noted, path)
		return 0
	}
	return noted.version
}
