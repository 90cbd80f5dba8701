package wire

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// dispatch answers one request whose headers have been read. An error means that
// the connection is of no more use.
func (c *serverConn) dispatch() error {
	path, query, _ := bytes.Cut(c.header.RequestURI(), []byte("?"))
	name, isCall := bytes.CutPrefix(path, []byte(callPath))
	switch {
	case string(path) == healthPath && c.header.IsGet():
		return c.respond(fasthttp.StatusOK, []byte("live\n"))
	case string(path) == readyPath && c.header.IsGet():
		return c.serveReady()
	case isCall && !c.header.IsPost(), !isCall && !c.header.IsGet():
		c.last = true // HEAD's client would take the body for the next answer
		return c.refuse(fasthttp.StatusMethodNotAllowed, problem.New(problem.MethodNotAllowed, "A worker takes POST /call/{function} and GET /load, /healthz and /readyz."))
	case !isCall && string(path) != loadPath:
		return c.refuse(fasthttp.StatusNotFound, problem.New(problem.NotFound, "A worker has nothing at this path; it takes POST /call/{function} and GET /load, /healthz and /readyz."))
	case !c.server.authorized(c.header.Peek(headerAuthorization)):
		return c.refuse(fasthttp.StatusUnauthorized, problem.New(problem.Unauthenticated, "The worker wants the fleet's key as Authorization: Bearer."))
	case isCall:
		return c.serveCall(lightcone.FunctionName(name), query)
	default:
		body, err := json.Marshal(c.server.load())
		if err != nil {
			return c.refuse(fasthttp.StatusInternalServerError, problem.Of(err))
		}
		return c.respond(fasthttp.StatusOK, append(body, '\n'))
	}
}

// authorized compares digests: in constant time, whatever the lengths.
func (s *Server) authorized(authorization []byte) bool {
	if s.config.Key == "" {
		return true
	}
	key, found := bytes.CutPrefix(authorization, []byte(bearerScheme))
	presented := lightcone.DigestOf(key)
	return found && subtle.ConstantTimeCompare(presented[:], s.digest[:]) == 1
}

func (c *serverConn) serveReady() error {
	if c.server.isDraining() {
		return c.respond(fasthttp.StatusServiceUnavailable, []byte("this worker is stopping\n"))
	}
	if err := c.server.config.Runner.Ready(); err != nil {
		return c.respond(fasthttp.StatusServiceUnavailable, []byte(err.Error()+"\n"))
	}
	return c.respond(fasthttp.StatusOK, []byte("ready\n"))
}

// call is the memory of one call. It is reused.
type call struct {
	request functions.Call
	answer  functions.Answer
	body    []byte
}

var callPool = sync.Pool{New: func() any { return new(call) }}

// keptBytes is the longest buffer that a call keeps for the next one.
const keptBytes = 1 << 20

// release gives back the call's memory. Nobody may look at it any more.
func (l *call) release() {
	kept := call{body: l.body[:0], answer: functions.Answer{Body: l.answer.Body[:0]}}
	if cap(kept.body) > keptBytes {
		kept.body = nil
	}
	if cap(kept.answer.Body) > keptBytes {
		kept.answer.Body = nil
	}
	*l = kept
	callPool.Put(l)
}

// serveCall runs a call and answers it.
func (c *serverConn) serveCall(name lightcone.FunctionName, query []byte) error {
	l := callPool.Get().(*call)
	l.request = functions.Call{
		Function: name, Query: query,
		ContentType: c.header.ContentType(), Accept: c.header.Peek(fasthttp.HeaderAccept),
		Traceparent: c.header.Peek(functions.HeaderTraceparent),
		Tenant:      lightcone.TenantID(c.header.Peek(headerTenant)),
	}
	spec, err := c.server.admit(name)
	if err != nil {
		l.release()
		return c.refuse(statusOf(err), problem.Of(err))
	}
	defer c.server.leave() // after the answer: its memory counts
	if err := c.identify(&l.request, spec); err != nil {
		l.release()
		return c.refuse(statusOf(err), problem.Of(err))
	}
	if err := c.readBody(l); err != nil {
		return err // part of the body is missing: nothing was run, and nobody waits
	}
	err, clean := c.server.run(&l.request, &l.answer)
	c.last = c.last || !clean // the headers may still be read, too
	err = c.answer(&l.answer, err)
	if clean {
		l.release()
	}
	return err
}

// identify reads what a call says of itself beside its input.
func (c *serverConn) identify(request *functions.Call, spec functions.Spec) error {
	var err error
	if request.ID, err = parseCallID(c.header.Peek(functions.HeaderCallID)); err != nil {
		return problem.New(problem.BadParameter, "The call's X-Call-Id is not one: %v.", err)
	}
	if err = request.Tenant.Validate(); err != nil {
		return problem.New(problem.BadParameter, "The call's Lightcone-Tenant is not one: %v.", err)
	}
	remaining := spec.DefaultTimeout
	if text := c.header.Peek(functions.HeaderDeadline); len(text) > 0 {
		if remaining, err = parseRemaining(text); err != nil {
			return problem.New(problem.BadParameter, "The call cannot be timed: %v.", err)
		}
	}
	request.Deadline = c.arrived.Add(min(remaining, spec.MaxTimeout))
	if int64(c.unread) > spec.MaxBodyBytes {
		return problem.New(problem.TooLarge, "The body is longer than the %d bytes that the function %s takes.", spec.MaxBodyBytes, spec.Name)
	}
	return nil
}

// readBody reads the call's input, within its deadline.
func (c *serverConn) readBody(l *call) error {
	if c.awaiting {
		if _, err := io.WriteString(c.Conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return err
		}
	}
	until := c.arrived.Add(c.server.config.BodyTimeout)
	if l.request.Deadline.Before(until) {
		until = l.request.Deadline
	}
	if err := c.SetReadDeadline(until); err != nil {
		return err
	}
	if cap(l.body) < c.unread {
		l.body = make([]byte, c.unread)
	}
	l.body = l.body[:c.unread]
	_, err := io.ReadFull(c.reader, l.body)
	c.unread, c.awaiting = 0, false
	l.request.Body = l.body
	return err
}

// run hands the call to the runner. clean means that nobody can still be looking
// at it: a runner that panicked may have left a reader behind.
func (s *Server) run(request *functions.Call, answer *functions.Answer) (err error, clean bool) {
	s.count(request.Function, +1)
	defer s.count(request.Function, -1)
	defer func() {
		if cause := recover(); cause != nil {
			s.config.Logger.Error("a call's runner panicked", "call", request.ID, "panic", cause, "stack", string(debug.Stack()))
			err, clean = problem.Of(errors.New("panic")), false
		}
	}()
	err = s.config.Runner.Run(request, answer)
	if err != nil {
		level := slog.LevelDebug
		if problem.Of(err).Kind == problem.Internal {
			level = slog.LevelError // the gateway is not told the cause
		}
		s.config.Logger.Log(context.Background(), level, "a call failed", "call", request.ID, "function", request.Function, "error", err)
	}
	return err, true
}

// statusOf is a failure's HTTP status, for people and their tools: a Client reads
// the kind.
func statusOf(err error) int {
	switch problem.Of(err).Kind {
	case problem.Overloaded:
		return fasthttp.StatusServiceUnavailable
	case problem.NotFound:
		return fasthttp.StatusNotFound
	case problem.BadParameter:
		return fasthttp.StatusBadRequest
	case problem.TooLarge:
		return fasthttp.StatusRequestEntityTooLarge
	case problem.DeadlineExceeded:
		return fasthttp.StatusGatewayTimeout
	default:
		return fasthttp.StatusInternalServerError
	}
}

// answer writes what the runner said.
func (c *serverConn) answer(answer *functions.Answer, err error) error {
	cost := func() {
		c.number(headerCPU, int64(answer.CPU))
		c.number(headerExec, int64(answer.Exec))
	}
	if err == nil && (!functions.IsFieldValue(answer.ContentType) || !functions.IsFieldValue(answer.Vary) || !functions.IsFieldValue(answer.Problem)) {
		err = problem.New(problem.FunctionFailed, "The function answered with a header that cannot be sent.")
	}
	if err != nil {
		found := problem.Of(err)
		said := failed
		if found.Kind == problem.Overloaded || found.Kind == problem.NotFound {
			said = refused
		}
		c.begin(statusOf(err))
		cost()
		return c.sendProblem(said, found)
	}
	c.begin(fasthttp.StatusOK)
	cost()
	c.field(headerOutcome, string(answered))
	c.number(headerStatus, int64(answer.Status))
	c.fieldIfAny(functions.HeaderProblem, string(answer.Problem))
	c.fieldIfAny(fasthttp.HeaderContentType, answer.ContentType)
	c.fieldIfAny(fasthttp.HeaderVary, answer.Vary)
	return c.send(answer.Body)
}

// refuse answers a request that was not run.
func (c *serverConn) refuse(status int, found *problem.Error) error {
	c.begin(status)
	return c.sendProblem(refused, found)
}

func (c *serverConn) sendProblem(said outcome, found *problem.Error) error {
	c.field(headerOutcome, string(said))
	c.field(functions.HeaderProblem, string(found.Kind))
	if found.RetryAfter > 0 {
		c.number(headerRetryAfter, int64(found.RetryAfter))
	}
	c.field(fasthttp.HeaderContentType, "text/plain; charset=utf-8")
	detail := found.Detail
	return c.send([]byte(detail[:min(len(detail), maxProblemBytes)]))
}

// respond answers a request that is not a call.
func (c *serverConn) respond(status int, body []byte) error {
	c.begin(status)
	return c.send(body)
}

// begin starts the answer's headers. fasthttp could write them, but would start
// its clock for Date, which never ends.
func (c *serverConn) begin(status int) {
	// Said before it happens: a client that learns it from the close may have sent
	// its next call by then.
	if c.server.isDraining() || c.awaiting || c.unread > discardBytes {
		c.last = true
	}
	c.out = fmt.Appendf(c.out[:0], "HTTP/1.1 %d %s\r\n", status, fasthttp.StatusMessage(status))
	if c.last {
		c.field(fasthttp.HeaderConnection, "close")
	}
}

func (c *serverConn) field(name, value string) {
	c.out = append(append(append(append(c.out, name...), ": "...), value...), "\r\n"...)
}

func (c *serverConn) fieldIfAny(name, value string) {
	if value != "" {
		c.field(name, value)
	}
}

func (c *serverConn) number(name string, value int64) {
	c.out = append(strconv.AppendInt(append(append(c.out, name...), ": "...), value, 10), "\r\n"...)
}

// send writes the answer, headers and body in one system call if it fits.
func (c *serverConn) send(body []byte) error {
	c.number(fasthttp.HeaderContentLength, int64(len(body)))
	c.out = append(c.out, "\r\n"...)
	if err := c.SetWriteDeadline(time.Now().Add(c.server.config.WriteTimeout)); err != nil {
		return err
	}
	message := net.Buffers{c.out, body}
	_, err := message.WriteTo(c.Conn)
	return err
}
