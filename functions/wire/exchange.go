package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// deadlineGrace is how long after the deadline the worker's own answer is waited
// for: it says what the call cost. The supervisor takes 20 ms of it.
const deadlineGrace = 100 * time.Millisecond

// exchange sends the call and reads its answer. The body leaves in one system
// call with the headers; when exchange returns, the kernel has its own copy of
// what was sent. sent is whether that is all of it.
func (c *clientConn) exchange(call *functions.Call, answer *functions.Answer) (sent bool, err error) {
	now := time.Now()
	if err := c.SetDeadline(call.Deadline.Add(deadlineGrace)); err != nil {
		return false, err
	}
	c.fill(call, call.Deadline.Sub(now))
	head := c.request.Header()
	message := net.Buffers{head, call.Body}
	n, unsent := message.WriteTo(c.Conn)
	sent = n == int64(len(head)+len(call.Body))
	if unsent != nil && n == 0 {
		return false, unsent
	}
	// A worker may refuse a call before it has read all of its body.
	if err := c.read(answer); err != nil {
		return sent, errors.Join(unsent, err)
	}
	if unsent != nil {
		c.response.SetConnectionClose() // the rest of the body is missing
	}
	return sent, nil
}

// fill writes the call's headers.
func (c *clientConn) fill(call *functions.Call, remaining time.Duration) {
	header := &c.request
	c.start(fasthttp.MethodPost)
	target := append(append(make([]byte, 0, 256), callPath...), call.Function...)
	if len(call.Query) > 0 {
		target = append(append(target, '?'), call.Query...)
	}
	header.SetRequestURIBytes(target)
	header.SetContentTypeBytes(call.ContentType)
	header.SetContentLength(len(call.Body))
	header.Set(functions.HeaderCallID, call.ID.String())
	header.Set(headerTenant, string(call.Tenant))
	header.SetBytesV(functions.HeaderDeadline, appendRemaining(target[:0], remaining))
	if len(call.Accept) > 0 {
		header.SetBytesV(fasthttp.HeaderAccept, call.Accept)
	}
	if len(call.Traceparent) > 0 {
		header.SetBytesV(functions.HeaderTraceparent, call.Traceparent)
	}
}

// start begins a request's headers.
func (c *clientConn) start(method string) {
	c.request.Reset()
	c.request.SetNoDefaultContentType(true)
	c.request.SetMethod(method)
	c.request.SetHost(c.host)
	if c.authorization != "" {
		c.request.Set(headerAuthorization, c.authorization)
	}
}

// read reads the worker's answer: the function's body into the answer, or the
// sentence of the worker's own into trouble.
func (c *clientConn) read(answer *functions.Answer) error {
	if err := readHeader(&c.response, c.reader); err != nil {
		return err
	}
	header := &c.response
	cpu, errCPU := optionalCount(header.Peek(headerCPU))
	exec, errExec := optionalCount(header.Peek(headerExec))
	if err := errors.Join(errCPU, errExec); err != nil {
		return fmt.Errorf("answer: what it cost: %w", err)
	}
	answer.CPU, answer.Exec = time.Duration(cpu), time.Duration(exec)
	c.trouble = c.trouble[:0]
	switch said := outcome(header.Peek(headerOutcome)); said {
	case answered:
		status, err := parseCount(header.Peek(headerStatus), 1<<16)
		if err != nil {
			return fmt.Errorf("answer: Lightcone-Status is %.32q: %w", header.Peek(headerStatus), err)
		}
		answer.Status = int(status)
		answer.Problem = problem.Kind(header.Peek(functions.HeaderProblem))
		answer.ContentType = string(header.ContentType())
		answer.Vary = string(header.Peek(fasthttp.HeaderVary))
		answer.Body, err = readBody(c.reader, answer.Body[:0], header.ContentLength(), maxAnswerBytes)
		return err
	case refused, failed:
		if len(header.Peek(functions.HeaderProblem)) == 0 {
			return fmt.Errorf("answer: it %s the call without a Lightcone-Problem", said)
		}
		var err error
		c.trouble, err = readBody(c.reader, c.trouble, header.ContentLength(), maxProblemBytes)
		return err
	default:
		return fmt.Errorf("answer: status %d with Lightcone-Outcome %.32q: is it a Lightcone worker of this version?", header.StatusCode(), said)
	}
}

// verdict turns the answer that was read into what Run returns.
func (c *Client) verdict(conn *clientConn) error {
	header := &conn.response
	if outcome(header.Peek(headerOutcome)) == answered {
		return nil
	}
	found := &problem.Error{Kind: problem.Kind(header.Peek(functions.HeaderProblem)), Detail: string(conn.trouble)}
	if found.Kind == problem.Unauthenticated { // the gateway's key, not the caller's
		return c.notStarted(errWrongKey)
	}
	if pause, err := optionalCount(header.Peek(headerRetryAfter)); err == nil {
		found.RetryAfter = time.Duration(pause)
	}
	return found.Because(c.named(errItsOwn))
}

var (
	errWrongKey = errors.New("it does not accept this process's fleet key; give both the same one")
	errItsOwn   = errors.New("it said so itself")
)

// optionalCount reads a number that may be missing: nanoseconds.
func optionalCount(text []byte) (int64, error) {
	if len(text) == 0 {
		return 0, nil
	}
	return parseCount(text, int64(maxRemaining))
}

// readHeader reads an answer's headers. Its errors are short, whatever was sent.
func readHeader(header *fasthttp.ResponseHeader, reader *bufio.Reader) error {
	header.SetNoDefaultContentType(true) // a function may name none
	err := header.Read(reader)
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, fasthttp.ErrTimeout) {
		return err
	}
	return fmt.Errorf("read the answer's headers: %.200s", err)
}

// growth bounds how much memory a length that was only announced can take.
const growth = 1 << 20

// readBody appends a body of the announced length to dst.
func readBody(reader io.Reader, dst []byte, length, most int) ([]byte, error) {
	if length < 0 || length > most {
		return dst, fmt.Errorf("answer: Content-Length is %d: want 0 to %d", length, most)
	}
	for end := len(dst) + length; len(dst) < end; {
		next := min(end-len(dst), max(growth, cap(dst)-len(dst)))
		dst = slices.Grow(dst, next)[:len(dst)+next]
		if n, err := io.ReadFull(reader, dst[len(dst)-next:]); err != nil {
			return dst, fmt.Errorf("answer: %d bytes before its end: %w", end-len(dst)+next-n, err)
		}
	}
	return dst, nil
}

// fetchLoad asks for the load on this connection. Whoever calls it closes the
// connection when the time is over.
func (c *clientConn) fetchLoad() (Load, error) {
	c.start(fasthttp.MethodGet)
	c.request.SetRequestURI(loadPath)
	if _, err := c.Write(c.request.Header()); err != nil {
		return Load{}, err
	}
	if err := readHeader(&c.response, c.reader); err != nil {
		return Load{}, err
	}
	switch status := c.response.StatusCode(); status {
	case fasthttp.StatusOK:
	case fasthttp.StatusUnauthorized:
		return Load{}, errWrongKey
	default:
		return Load{}, fmt.Errorf("status %d", status)
	}
	body, err := readBody(c.reader, nil, c.response.ContentLength(), maxLoadBytes)
	if err != nil {
		return Load{}, err
	}
	var load Load
	if err := load.UnmarshalJSON(body); err != nil {
		return Load{}, err
	}
	return load, nil
}
