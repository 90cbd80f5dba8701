package runtime

import (
	"strings"
	"sync"
)

// firstWordsSize and lastWordsSize bound what is kept of a process's output:
// the reason of a death stands at its beginning (Go) or at its end (most others).
const (
	firstWordsSize = 1 << 10
	lastWordsSize  = 3 << 10
)

// lastWords keeps the two ends of what a process printed. It is an io.Writer
// that never fails.
type lastWords struct {
	mu    sync.Mutex
	first []byte
	last  []byte
	lost  bool // something between the two was dropped
}

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written := len(p)
	room := min(firstWordsSize-len(w.first), len(p))
	w.first = append(w.first, p[:room]...)
	p = p[room:]
	if len(p) > lastWordsSize {
		p = p[len(p)-lastWordsSize:]
		w.lost = true
	}
	w.last = append(w.last, p...)
	if excess := len(w.last) - lastWordsSize; excess > 0 {
		w.last = append(w.last[:0], w.last[excess:]...)
		w.lost = true
	}
	return written, nil
}

// text is what has been kept, trimmed.
func (w *lastWords) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	between := ""
	if w.lost {
		between = " […] "
	}
	return strings.TrimSpace(string(w.first) + between + string(w.last))
}
