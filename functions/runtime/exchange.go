package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

const (
	maxAnswerBytes = 64 << 20
	healthTimeout  = 5 * time.Second
	// A function that honours its deadline answers just after it; killing it in
	// that moment would waste a warm process.
	deadlineGrace = 20 * time.Millisecond
)

// connect opens the process's one connection if it is not open.
func (p *process) connect() error {
	if p.connection != nil {
		quiet, err := silent(p.connection)
		if quiet || err != nil {
			return err
		}
		p.disconnect() // the process has closed it, as servers do with idle ones
	}
	connection, err := p.dial()
	if err != nil {
		return err
	}
	p.connection = connection
	deepen(connection)
	if p.reader == nil {
		p.reader = bufio.NewReaderSize(connection, 16<<10)
		return nil
	}
	p.reader.Reset(connection)
	return nil
}

// silent looks at an idle connection without reading: true when nothing has
// come, false when the process has closed it. Bytes that nobody asked for are an
// error: they would be taken for the next call's answer.
func silent(connection net.Conn) (quiet bool, err error) {
	control, err := connection.(syscall.Conn).SyscallConn()
	if err != nil {
		return false, err
	}
	var byteRead [1]byte
	var n int
	var failed error
	err = control.Control(func(fd uintptr) {
		n, _, failed = unix.Recvfrom(int(fd), byteRead[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	switch {
	case err != nil:
		return false, err
	case errors.Is(failed, unix.EAGAIN):
		return true, nil
	case n > 0:
		return false, errors.New("it sent something between two calls")
	default: // closed or reset
		return false, nil
	}
}

// sendBuffer lets a usual input leave in one system call, without waiting for
// the process to read the first half of it.
const sendBuffer = 1 << 20

// deepen asks for the send buffer, beyond the system's limit if it may.
func deepen(connection net.Conn) {
	raw, ok := connection.(syscall.Conn)
	if !ok {
		return
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return
	}
	_ = control.Control(func(fd uintptr) { // the system's default works, too
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
	})
}

func (p *process) disconnect() {
	if p.connection != nil {
		_ = p.connection.Close()
		p.connection = nil
	}
}

// askHealth asks once.
func (p *process) askHealth() error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetRequestURI(functions.HealthPath)
	request.Header.SetHost("function")
	if err := p.exchange(request, response, time.Now().Add(healthTimeout)); err != nil {
		p.disconnect()
		return err
	}
	if response.StatusCode() != fasthttp.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode())
	}
	return nil
}

// exchange sends one request and reads its answer, by the deadline.
func (p *process) exchange(request *fasthttp.Request, response *fasthttp.Response, deadline time.Time) error {
	if err := p.connect(); err != nil {
		return err
	}
	if err := p.connection.SetDeadline(deadline); err != nil {
		return err
	}
	body := request.Body()
	request.Header.SetContentLength(len(body))
	message := net.Buffers{request.Header.Header(), body}
	_, unsent := message.WriteTo(p.connection)
	if unsent != nil && !errors.Is(unsent, unix.EPIPE) && !errors.Is(unsent, unix.ECONNRESET) {
		return unsent
	}
	// A function may refuse an input before it has read all of it.
	if err := response.ReadLimitBody(p.reader, maxAnswerBytes); err != nil {
		return errors.Join(unsent, err)
	}
	if p.reader.Buffered() > 0 {
		return errors.New("it sent more than one answer") // the rest would become the next caller's
	}
	if unsent != nil || response.ConnectionClose() {
		p.disconnect()
	}
	return nil
}

// errNotSent says that a process was gone before it could be given a call.
var errNotSent = errors.New("the process had ended before the call")

// run gives the process a call. After an error the process is dead or dying.
func (p *process) run(call *functions.Call, answer *functions.Answer) error {
	p.held.Lock()
	defer p.held.Unlock()
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	fill(request, call)

	before, err := p.clock.read()
	if err != nil {
		return errNotSent
	}
	start := time.Now()
	err = p.exchange(request, response, call.Deadline.Add(deadlineGrace))
	answer.Exec = time.Since(start)
	if err != nil {
		return p.explain(call, answer, before, err)
	}
	after, err := p.clock.read()
	if err != nil { // it answered and died at once: the answer stands
		p.diesWithin(goneTimeout)
		after = max(before, p.cpuAtEnd())
	}
	answer.CPU = after - before
	p.calls++
	return take(response, answer)
}

// fill writes the contract's request for call.
func fill(request *fasthttp.Request, call *functions.Call) {
	header := &request.Header
	header.SetMethod(fasthttp.MethodPost)
	header.SetHost("function")
	uri := append(make([]byte, 0, 128), '/')
	if len(call.Query) > 0 {
		uri = append(append(uri, '?'), call.Query...)
	}
	header.SetRequestURIBytes(uri)
	header.SetContentTypeBytes(call.ContentType)
	if len(call.Accept) > 0 {
		header.SetBytesV("Accept", call.Accept)
	}
	if len(call.Traceparent) > 0 {
		header.SetBytesV(functions.HeaderTraceparent, call.Traceparent)
	}
	header.Set(functions.HeaderCallID, call.ID.String())
	var stamp [64]byte
	header.SetBytesV(functions.HeaderDeadline, call.Deadline.UTC().AppendFormat(stamp[:0], time.RFC3339Nano))
	request.SetBodyRaw(call.Body)
}

// take moves a function's response into answer; what cannot be an answer costs the
// process, as all that breaks the contract does.
func take(response *fasthttp.Response, answer *functions.Answer) error {
	answer.Status = response.StatusCode()
	answer.ContentType = string(response.Header.ContentType())
	answer.Vary = string(response.Header.Peek("Vary"))
	answer.Problem = ""
	if kind := response.Header.Peek(functions.HeaderProblem); len(kind) > 0 {
		answer.Problem = problem.Kind(kind)
		if !functions.FunctionMay(answer.Problem) {
			return problem.New(problem.FunctionFailed, "The function named a problem that a function cannot have.")
		}
	}
	if !functions.IsFieldValue(answer.ContentType) || !functions.IsFieldValue(answer.Vary) {
		return problem.New(problem.FunctionFailed, "The function answered with a header that cannot be sent on.")
	}
	answer.Body = append(answer.Body[:0], response.Body()...)
	return nil
}

// explain says why a call has no answer, makes sure that the process is gone,
// and sets what the call cost until then.
func (p *process) explain(call *functions.Call, answer *functions.Answer, before time.Duration, cause error) error {
	name := p.spec.Name
	late := errors.Is(cause, os.ErrDeadlineExceeded) || errors.Is(cause, fasthttp.ErrTimeout)
	if late && !p.dropped.Load() {
		if now, err := p.clock.read(); err == nil {
			answer.CPU = now - before
		}
		p.kill()
		return problem.New(problem.DeadlineExceeded, "The function %s was still running at the call's deadline and was stopped.", name).Because(cause)
	}
	// A process that is already ending keeps its own reason; one that only broke
	// the protocol is ended here, and its state says so.
	p.kill()
	gone := p.diesWithin(goneTimeout)
	if gone {
		answer.CPU = max(0, p.cpuAtEnd()-before)
	} else if now, err := p.clock.read(); err == nil {
		answer.CPU = now - before
	}
	switch {
	case p.dropped.Load() && !p.overgrew.Load() && (!gone || p.endedByUs()):
		return problem.New(problem.Cancelled, "The call was cancelled while the function %s ran it, and was stopped.", name).Because(cause)
	case !gone:
		return problem.New(problem.FunctionFailed, "The function %s broke off and did not end; it is being replaced.", name).Because(cause)
	}
	words := p.words.text()
	detail := fmt.Errorf("%w; %v; its last words: %q", cause, p.command.ProcessState, words)
	if p.endedByUs() && !p.overgrew.Load() {
		return problem.New(problem.FunctionFailed, "The function %s broke off or answered something that is not HTTP; its process was replaced.", name).Because(detail)
	}
	switch kind := diagnose(p.overgrew.Load(), []byte(words), p.peakMemory(), p.spec.MemoryBytes); kind {
	case problem.OutOfMemory:
		return problem.New(kind, "The function %s needed more than its %d MiB of memory for this call and was stopped.", name, p.spec.MemoryBytes>>20).Because(detail)
	default:
		return problem.New(kind, "The function %s crashed on this call (%s); other calls are not affected.", name, inputName(call)).Because(detail)
	}
}

// inputName says which input it was, so that a caller can find it again.
func inputName(call *functions.Call) string {
	return fmt.Sprintf("an input of %d bytes, SHA-256 %.16s…", len(call.Body), lightcone.DigestOf(call.Body))
}
