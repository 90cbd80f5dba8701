package bulk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"lightcone/internal/problem"
)

// record is a journal's line: an object that need not be worked on again.
type record struct {
	Key     string       `json:"key"`
	Work    string       `json:"work"`             // the fingerprint
	Output  string       `json:"output,omitempty"` // where its answer is
	Type    string       `json:"type,omitempty"`   // the answer's content type
	Size    int64        `json:"size,omitempty"`   // the answer's bytes
	Problem problem.Kind `json:"problem,omitempty"`
	Detail  string       `json:"detail,omitempty"`
}

// Failure is a line of the failures' list.
type Failure struct {
	Key     string       `json:"key"`
	Problem problem.Kind `json:"problem"` // or "storage"
	Detail  string       `json:"detail"`
}

// finished is what a share remembers of a journal's line.
type finished struct {
	media string // the answer's content type; one string for all lines
	size  int64
	bad   *verdict // nil for an output
}

const (
	// partLines is how many lines one object holds. Object stores cannot append: the
	// part that grows is written anew each time, and a full one never again.
	partLines = 1000
	// longestPart bounds what is read back: a key of S3 has at most 1024 bytes, and
	// JSON may write each as six.
	longestPart = partLines * (2*6*1024 + 6*longestDetail + 512)
)

// lines is a growing list of JSON lines, kept as objects of bounded length. Its
// methods may be called from many goroutines; save by one at a time.
type lines struct {
	store Store
	key   func(part int) string

	mu      sync.Mutex
	parts   []part // those with something unsaved, in order, and the one that grows
	writing int    // the number of the part that grows
}

type part struct {
	number, lines, saved int
	content              []byte
}

func newLines(store Store, key func(part int) string) *lines {
	return &lines{store: store, key: key, parts: []part{{}}}
}

// add notes a line, to be kept by the next save.
func (l *lines) add(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(fmt.Sprintf("a line of strings and numbers: %v", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := &l.parts[len(l.parts)-1]
	last.content = append(append(last.content, text...), '\n')
	if last.lines++; last.lines == partLines {
		l.writing++
		l.parts = append(l.parts, part{number: l.writing})
	}
}

// save writes what has been added since the last save that went well.
func (l *lines) save(ctx context.Context) error {
	l.mu.Lock()
	unsaved := slices.Clone(l.parts) // contents only grow: this much of them stays as it is
	l.mu.Unlock()
	for _, p := range unsaved {
		if p.lines == p.saved {
			continue
		}
		if err := l.store.Write(ctx, l.key(p.number), "application/x-ndjson", p.content); err != nil {
			return err
		}
		l.saved(p)
	}
	return nil
}

// saved lets go of a part that is full and kept.
func (l *lines) saved(p part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.parts, func(other part) bool { return other.number == p.number })
	if p.lines == partLines {
		l.parts = slices.Delete(l.parts, at, at+1)
		return
	}
	l.parts[at].saved = p.lines
}

// history is what earlier runs of a share have finished.
type history map[fingerprint]finished

// readHistory reads the share's journals, and those of the same job cut into
// another number of shares. A line that cannot be read is work to be done again.
func readHistory(ctx context.Context, out Store, job string, share, shares int) (history, error) {
	var keys []string
	err := out.List(ctx, jobFolder(job)+"share-", func(o Object) error {
		if index, of, is := isJournal(job, o.Key); is && (index == share || of != shares) {
			keys = append(keys, o.Key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	known, medias := make(history), make(map[string]string)
	var content []byte
	for _, key := range keys {
		if content, err = out.Read(ctx, key, longestPart, content[:0]); err != nil {
			return nil, err
		}
		for line := range bytes.Lines(content) {
			known.learn(line, medias, share, shares)
		}
	}
	return known, nil
}

func (h history) learn(line []byte, medias map[string]string, share, shares int) {
	var r record
	if json.Unmarshal(line, &r) != nil || ShareOf(r.Key, shares) != share {
		return
	}
	id, ok := parseFingerprint(r.Work)
	if !ok {
		return
	}
	if r.Problem != "" {
		h[id] = finished{bad: &verdict{outcome: bad, kind: r.Problem, detail: r.Detail, remember: true}}
		return
	}
	if _, seen := medias[r.Type]; !seen {
		medias[r.Type] = r.Type
	}
	h[id] = finished{media: medias[r.Type], size: r.Size}
}
