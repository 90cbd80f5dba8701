package gateway

import (
	"bytes"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

var (
	keyAuthorization = []byte("Authorization")
	keyTimeout       = []byte("X-Timeout")
	keyAccept        = []byte("Accept")
	keyTraceparent   = []byte(functions.HeaderTraceparent)
)

// Headers that may come in several lines, as fasthttp wants to be asked for those.
const (
	keyPrefer         = "Prefer"
	keyIdempotencyKey = "Idempotency-Key"
	keyCallbackURL    = "X-Callback-Url"
)

// route is what a path asks for.
type route int

const (
	routeNone route = iota
	routeCall
	routeHealth
	routeReady
	routeAccept     // a call whose client does not wait
	routeInvocation // what has become of one
	routeResult     // its result
	routeUsage      // what a tenant has used
)

var (
	callPrefix       = []byte("/function/")
	acceptPrefix     = []byte("/async-function/")
	invocationPrefix = []byte(invocationPath)
	resultSuffix     = []byte("/result")
)

const invocationPath = "/v1/invocations/"

// routeOf finds the route of a path as it was sent: nothing is decoded or
// cleaned, so there is one way to write each, and %2e is no dot. name is the
// function's for routeCall and routeAccept, and for routeInvocation and routeResult
// what stands where the id belongs.
func routeOf(path []byte) (found route, name []byte) {
	if name, found := bytes.CutPrefix(path, callPrefix); found && isName(name) {
		return routeCall, name
	}
	switch string(path) {
	case "/healthz":
		return routeHealth, nil
	case "/readyz":
		return routeReady, nil
	case "/v1/usage":
		return routeUsage, nil
	}
	if name, found := bytes.CutPrefix(path, acceptPrefix); found && isName(name) {
		return routeAccept, name
	}
	if id, found := bytes.CutPrefix(path, invocationPrefix); found {
		id, isResult := bytes.CutSuffix(id, resultSuffix)
		switch {
		case len(id) == 0 || bytes.IndexByte(id, '/') >= 0:
		case isResult:
			return routeResult, id
		default:
			return routeInvocation, id
		}
	}
	return routeNone, nil
}

// calls says whether the route is one of a function's: its request has a body.
func (r route) calls() bool { return r == routeCall || r == routeAccept }

// queues says whether the route is there only where there is a queue.
func (r route) queues() bool {
	return r == routeAccept || r == routeInvocation || r == routeResult
}

// methods are those that the route takes.
func (r route) methods() string {
	switch r {
	case routeCall, routeAccept:
		return "POST"
	case routeInvocation:
		return "GET, HEAD, DELETE"
	default:
		return "GET, HEAD"
	}
}

// takes says whether the route takes the method, whose case matters (RFC 9110, 9.1).
func (r route) takes(method []byte) bool {
	switch string(method) {
	case "POST":
		return r.calls()
	case "GET", "HEAD":
		return !r.calls()
	case "DELETE":
		return r == routeInvocation
	default:
		return false
	}
}

// isName is the rule of lightcone.FunctionName, for bytes and without its error.
func isName(name []byte) bool {
	if len(name) == 0 || len(name) > 63 || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// bearer is the key in an Authorization header (RFC 6750): empty when the header
// is missing or is of another scheme. The scheme's case does not matter (RFC 9110, 11.1).
func bearer(authorization []byte) []byte {
	scheme, key, found := bytes.Cut(authorization, []byte(" "))
	if !found || !equalFold(scheme, "bearer") {
		return nil
	}
	return bytes.Trim(key, " ")
}

// timeoutOf reads X-Timeout: a Go duration above 0 and up to the function's
// longest. Without the header it is the function's default.
func timeoutOf(header []byte, spec *functions.Spec) (time.Duration, error) {
	if len(header) == 0 {
		return spec.DefaultTimeout, nil
	}
	timeout, err := time.ParseDuration(string(header[:min(len(header), 64)]))
	if err != nil || timeout <= 0 || timeout > spec.MaxTimeout {
		return 0, problem.New(problem.BadParameter, "The header X-Timeout is %q; want a duration such as 1.5s, more than 0 and at most %v for the function %q.",
			header[:min(len(header), 64)], spec.MaxTimeout, string(spec.Name))
	}
	return timeout, nil
}

// framing refuses headers that two readers could read in two ways, the way requests
// are smuggled past a proxy (RFC 9112, 2.2, 5.1, 5.2, 6.1 and 11.2): Content-Length
// beside Transfer-Encoding, any coding but chunked alone, lines that end without a
// carriage return or go on in the next, and names that are none. fasthttp already
// refuses repeated ones, lengths that are no number, and control characters in values.
// raw is the header block as received.
func framing(raw []byte) error {
	lengths, codings := 0, 0
	for len(raw) > 0 {
		var line []byte
		line, raw, _ = bytes.Cut(raw, []byte("\n"))
		line, ended := bytes.CutSuffix(line, []byte("\r"))
		if !ended {
			return problem.New(problem.BadParameter, "A header line does not end with a carriage return and a line feed; send both.")
		}
		if len(line) == 0 {
			continue
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || !isToken(name) {
			return problem.New(problem.BadParameter, "A header line does not begin with a name and a colon; send each header in one line, without a space before its colon.")
		}
		switch len(name) {
		case len("Content-Length"):
			if equalFold(name, "content-length") {
				lengths++
			}
		case len("Transfer-Encoding"):
			if !equalFold(name, "transfer-encoding") {
				continue
			}
			codings++
			if !equalFold(bytes.Trim(value, " \t"), "chunked") {
				return problem.New(problem.BadParameter, "The only Transfer-Encoding that Lightcone reads is chunked.")
			}
		}
	}
	if lengths > 1 || codings > 1 || lengths > 0 && codings > 0 {
		return problem.New(problem.BadParameter, "The request says twice how long its body is; send one Content-Length, or Transfer-Encoding: chunked alone.")
	}
	return nil
}

// tokenBytes are those that names consist of (RFC 9110, 5.6.2).
var tokenBytes = func() (found [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" {
		found[c] = true
	}
	return found
}()

func isToken(name []byte) bool {
	for _, c := range name {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(name) > 0
}

// equalFold compares ASCII letters without case; lower is in lower case already.
func equalFold(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
