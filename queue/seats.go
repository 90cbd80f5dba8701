package queue

import (
	"strings"
	"time"
)

// member is a node as the leader of the cluster sees it.
type member struct {
	id      string // the server's
	name    string // "" when the leader has never heard from it
	gone    bool   // not heard of for goneAfter
	current bool   // it has what the leader has
}

// leftovers are the members to be removed, because somebody else has their seat: one
// that is gone, and whose seat has another member that is up to date. A leader that
// has never heard of the one that is gone does not know its seat; but when every one
// of the seats is taken, it had one of them.
//
// Without it, a node that came back on another disk would be a fourth member of three,
// and the streams' copies would go on waiting for the third.
func leftovers(members []member, seats int) []member {
	held := make(map[string]bool)
	for _, m := range members {
		if !m.gone && m.current && m.name != "" {
			held[seatOf(m.name)] = true
		}
	}
	var left []member
	for _, m := range members {
		if m.gone && (m.name != "" && held[seatOf(m.name)] || m.name == "" && len(held) >= seats) {
			left = append(left, m)
		}
	}
	return left
}

// silence is since when members have not been heard of.
type silence map[string]time.Time

// gone notes whether a member was heard of lately, and says whether it has been silent
// for goneAfter. A leader that is new has heard of nobody yet.
func (s silence) gone(id string, heard bool, now time.Time) bool {
	since, silent := s[id]
	switch {
	case heard:
		delete(s, id)
		return false
	case !silent:
		s[id] = now
		return false
	}
	return now.Sub(since) >= goneAfter
}

// knownName is a node's name, or "" when the server says that it does not know it.
func knownName(name string) string {
	if strings.ContainsRune(name, ' ') {
		return ""
	}
	return name
}
