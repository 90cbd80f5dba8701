package bulk

import (
	"fmt"
	"slices"
	"strings"

	"lightcone/internal/naming"
)

// candidate is an object to be worked on, and what its neighbours' names leave
// of the choice of its own.
type candidate struct {
	Object
	taken   bool // there is an object called like this one without its extension
	crowded bool // or one, of whatever extension, that goes on after that with a dot
}

// output is what the result of c is called.
func (c candidate) output(contentType string) string {
	return naming.Name{Path: c.Key, Taken: c.taken, Crowded: c.crowded}.Output(contentType)
}

// namer turns a listing in the order of keys into candidates, one behind, with
// memory for a path's depth and not for the listing: the keys that begin with
// some text stand together, directly behind that text itself. So whoever could
// contest a name is the next, the one before, or among those that the key
// continues.
//
// Unlike package client it counts x.d/y.jpg as a neighbour of x.jpg: x.jpg then
// becomes x.jpg.webp, though x.webp would do.
type namer struct {
	above    []string // earlier keys that the waiting one continues, shortest first
	previous string   // the key before the waiting one
	waiting  Object
	begun    bool
}

// next takes the listing's next object and settles the one before, if any.
func (n *namer) next(o Object) (settled candidate, any bool, err error) {
	if n.begun && o.Key <= n.waiting.Key {
		return candidate{}, false, fmt.Errorf("the listing has %q after %q: want the order of keys, as S3's general purpose buckets list", o.Key, n.waiting.Key)
	}
	if n.begun {
		settled, any = n.settle(o.Key), true
		n.above, n.previous = append(n.above, n.waiting.Key), n.waiting.Key
	}
	for len(n.above) > 0 && !strings.HasPrefix(o.Key, n.above[len(n.above)-1]) {
		n.above = n.above[:len(n.above)-1]
	}
	n.waiting, n.begun = o, true
	return settled, any, nil
}

// last settles the listing's last object, if there was one.
func (n *namer) last() (candidate, bool) { return n.settle(""), n.begun }

func (n *namer) settle(following string) candidate {
	c := candidate{Object: n.waiting}
	stem, extension := naming.Split(c.Key)
	if extension == "" {
		return c
	}
	c.taken = slices.Contains(n.above, stem)
	c.crowded = c.taken || strings.HasPrefix(n.previous, stem+".") || strings.HasPrefix(following, stem+".")
	return c
}
