package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lightcone"
)

// The names on the wire, beside those of the contract in package functions.
const (
	headerTenant        = "Lightcone-Tenant"
	headerOutcome       = "Lightcone-Outcome"
	headerStatus        = "Lightcone-Status"
	headerCPU           = "Lightcone-Cpu"
	headerExec          = "Lightcone-Exec"
	headerRetryAfter    = "Lightcone-Retry-After"
	headerAuthorization = "Authorization"

	callPath   = "/call/"
	loadPath   = "/load"
	healthPath = "/healthz"
	readyPath  = "/readyz"

	bearerScheme = "Bearer "
)

// outcome says whose answer it is.
type outcome string

const (
	answered outcome = "answered" // the function's
	refused  outcome = "refused"  // the worker's; nothing was run
	failed   outcome = "failed"   // the worker's; the call was started
)

// The bounds of both ends.
const (
	// maxAnswerBytes is what the supervisor accepts from a function, too.
	maxAnswerBytes  = 64 << 20
	maxLoadBytes    = 1 << 20
	maxProblemBytes = 64 << 10

	// The gateway bounds a caller's headers at 16 KiB; a few of our own come on top.
	headerBytes = 32 << 10
)

var errCallID = errors.New("want the 26 characters of a ULID")

// parseCallID reads what lightcone.CallID.String writes.
func parseCallID(text []byte) (lightcone.CallID, error) {
	const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // github.com/ulid/spec
	var id lightcone.CallID
	if len(text) != 26 || text[0] > '7' { // 26 digits of 5 bits are 130: the first two are zero
		return id, errCallID
	}
	var high, low uint64
	for _, c := range text {
		digit := strings.IndexByte(crockford, c)
		if digit < 0 {
			return id, errCallID
		}
		high = high<<5 | low>>59
		low = low<<5 | uint64(digit)
	}
	for i := range 8 {
		id[i] = byte(high >> (56 - 8*i))
		id[8+i] = byte(low >> (56 - 8*i))
	}
	return id, nil
}

// maxRemaining keeps a deadline's arithmetic far from overflowing.
const maxRemaining = 365 * 24 * time.Hour

// appendRemaining writes Lightcone-Deadline: whole microseconds, at least one.
func appendRemaining(dst []byte, remaining time.Duration) []byte {
	remaining = min(max(remaining, time.Microsecond), maxRemaining)
	return strconv.AppendInt(dst, remaining.Microseconds(), 10)
}

// parseRemaining reads Lightcone-Deadline.
func parseRemaining(text []byte) (time.Duration, error) {
	n, err := parseCount(text, int64(maxRemaining/time.Microsecond))
	if err != nil || n == 0 {
		return 0, fmt.Errorf("header Lightcone-Deadline is %.32q: want the microseconds that remain, more than 0", text)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// parseCount reads a decimal number from 0 to most, without a sign.
func parseCount(text []byte, most int64) (int64, error) {
	if len(text) == 0 || len(text) > 19 {
		return 0, errNotANumber
	}
	n, err := strconv.ParseUint(string(text), 10, 63)
	if err != nil || int64(n) > most {
		return 0, errNotANumber
	}
	return int64(n), nil
}

var errNotANumber = errors.New("it is not a number in range")

// isTarget says whether a query can stand in a request line as it is: spaces end
// it and line ends would begin a header (RFC 9112, 3).
func isTarget(query []byte) bool {
	for _, c := range query {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
