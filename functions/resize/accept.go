package resize

import (
	"strconv"
	"strings"
)

// negotiate picks the output of format=auto from an Accept header (RFC 9110,
// 12.5.1). AVIF and WebP must be named with a q above 0: a bare */* comes from
// programs that may know neither. Of equal q, the smaller format wins; a header
// that allows none of the three gets the fallback, which everything can show.
func negotiate(accept string, alpha bool) format {
	fallback := jpegFormat
	if alpha {
		fallback = pngFormat
	}
	best, bestQ := fallback, max(0, quality(accept, fallback.contentType(), "image/*", "*/*"))
	for _, candidate := range []format{webpFormat, avifFormat} {
		if q := quality(accept, candidate.contentType()); q > 0 && q >= bestQ {
			best, bestQ = candidate, q
		}
	}
	return best
}

// quality is the q that accept gives to the first of ranges it names, -1 if none.
func quality(accept string, ranges ...string) float64 {
	for _, wanted := range ranges {
		for element := range strings.SplitSeq(accept, ",") {
			name, parameters, _ := strings.Cut(element, ";")
			if strings.EqualFold(strings.TrimSpace(name), wanted) {
				return weight(parameters)
			}
		}
	}
	return -1
}

// weight reads q from a media range's parameters: 1 if absent, 0 if not a number
// from 0 to 1.
func weight(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		q, err := strconv.ParseFloat(value, 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return q
	}
	return 1
}
