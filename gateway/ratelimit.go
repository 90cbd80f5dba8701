package gateway

import (
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/gateway/admission"
)

// The fields of draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4:
// structured fields (RFC 9651), lists of policies by name. Of the parameters, q is
// the quota, in the unit qu (requests, unless it says content-bytes or
// concurrent-requests), and w the window in seconds; r is what is left of it, and t
// the seconds within which no more than that can be had. The draft has no unit for
// CPU time, so that quota is not told here.
var (
	headerRateLimitPolicy = []byte("RateLimit-Policy")
	headerRateLimit       = []byte("RateLimit")
)

// longestInteger is the largest integer of a structured field (RFC 9651, 3.3.1).
const longestInteger = 999_999_999_999_999

// limitFields are the buffers of one answer's fields.
type limitFields struct{ policy, left []byte }

// set writes what the tenant may use and has left; nothing when that is unlimited.
// patience bounds t: it must not be later than a Retry-After (section 6).
func (f *limitFields) set(response *fasthttp.Response, q *lightcone.Quota, s admission.Standing, patience time.Duration) {
	f.policy, f.left = appendPolicy(f.policy[:0], q), appendLeft(f.left[:0], q, s, patience)
	if len(f.policy) > 0 {
		response.Header.SetCanonical(headerRateLimitPolicy, f.policy)
		response.Header.SetCanonical(headerRateLimit, f.left)
	}
}

// limits a quota has, of those that the fields can tell.
func limitsRate(q *lightcone.Quota) bool     { return q.CallsPerSecond >= 0 }
func limitsCalls(q *lightcone.Quota) bool    { return q.ConcurrentCalls >= 0 }
func limitsTransfer(q *lightcone.Quota) bool { return q.BytesPerMonth >= 0 }

// secondsOfMonth is the window of a month's quota: the longest month's.
const secondsOfMonth = 31 * 24 * 60 * 60

func appendPolicy(dst []byte, q *lightcone.Quota) []byte {
	if limitsRate(q) {
		quota, window := policyOfRate(q)
		dst = appendParameter(appendItem(dst, admission.CallsPerSecond), ";q=", quota)
		dst = appendParameter(dst, ";w=", window)
	}
	if limitsCalls(q) {
		dst = appendParameter(appendItem(dst, admission.ConcurrentCalls), ";q=", int64(q.ConcurrentCalls))
		dst = append(dst, `;qu="concurrent-requests"`...)
	}
	if limitsTransfer(q) {
		dst = appendParameter(appendItem(dst, admission.BytesPerMonth), ";q=", q.BytesPerMonth)
		dst = appendParameter(append(dst, `;qu="content-bytes"`...), ";w=", secondsOfMonth)
	}
	return dst
}

// policyOfRate is a token bucket as a quota and a window: the sustained rate over
// the fewest whole seconds that fill the bucket.
func policyOfRate(q *lightcone.Quota) (quota, window int64) {
	if q.CallsPerSecond == 0 || q.Burst == 0 {
		return 0, 1
	}
	burst := float64(q.Burst)
	if q.Burst < 0 {
		burst = math.Ceil(q.CallsPerSecond)
	}
	seconds := min(max(math.Ceil(burst/q.CallsPerSecond), 1), longestInteger)
	return int64(min(q.CallsPerSecond*seconds, longestInteger)), int64(seconds)
}

func appendLeft(dst []byte, q *lightcone.Quota, s admission.Standing, patience time.Duration) []byte {
	if limitsRate(q) {
		dst = appendParameter(appendItem(dst, admission.CallsPerSecond), ";r=", s.Tokens)
		dst = appendParameter(dst, ";t=", wholeSeconds(min(s.NextToken, patience)))
	}
	if limitsCalls(q) {
		dst = appendParameter(appendItem(dst, admission.ConcurrentCalls), ";r=", s.Free)
	}
	if limitsTransfer(q) {
		dst = appendParameter(appendItem(dst, admission.BytesPerMonth), ";r=", s.Bytes)
		dst = appendParameter(dst, ";t=", wholeSeconds(min(s.MonthEnds, patience)))
	}
	return dst
}

// wholeSeconds rounds up, and is at least the one second that the fields can tell.
func wholeSeconds(d time.Duration) int64 {
	return int64(max(math.Ceil(d.Seconds()), 1))
}

// appendItem begins the next policy in a list.
func appendItem(dst []byte, name admission.Limit) []byte {
	if len(dst) > 0 {
		dst = append(dst, ", "...)
	}
	return append(append(append(dst, '"'), name...), '"')
}

func appendParameter(dst []byte, key string, value int64) []byte {
	return strconv.AppendInt(append(dst, key...), min(max(value, 0), longestInteger), 10)
}
