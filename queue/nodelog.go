package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// nodeLogger makes the server's log lines slog's. What the server finds notable is
// of interest to who looks for an error; its warnings are the service's.
type nodeLogger struct {
	logger *slog.Logger
	secret string // never written

	mu    sync.Mutex
	ended error
}

func newNodeLogger(logger *slog.Logger) *nodeLogger { return &nodeLogger{logger: logger} }

func (l *nodeLogger) line(format string, values []any) string {
	text := fmt.Sprintf(format, values...)
	if l.secret != "" {
		text = strings.ReplaceAll(text, l.secret, "[password]")
	}
	return text
}

func (l *nodeLogger) Noticef(format string, values ...any) { l.logger.Debug(l.line(format, values)) }
func (l *nodeLogger) Warnf(format string, values ...any)   { l.logger.Warn(l.line(format, values)) }
func (l *nodeLogger) Errorf(format string, values ...any)  { l.logger.Error(l.line(format, values)) }
func (l *nodeLogger) Debugf(string, ...any)                {}
func (l *nodeLogger) Tracef(string, ...any)                {}

// Fatalf notes why the server could not start; ending the process is not its to do.
func (l *nodeLogger) Fatalf(format string, values ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = errors.Join(l.ended, errors.New(l.line(format, values)))
}

func (l *nodeLogger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}
