package gateway

import (
	"bytes"
	"time"

	"lightcone/internal/problem"
)

// preferences are what Lightcone honours of a request's Prefer header (RFC 7240).
type preferences struct {
	respondAsync bool // section 4.1: do not wait for the answer
	waits        bool // section 4.3: wait was given
	wait         time.Duration
	handles      bool // section 4.4: handling was given
	strict       bool // as strict
}

// mostWait is the longest wait that is honoured: who wishes more gets so much.
const mostWait = time.Minute

// preferencesOf reads the Prefer header's lines. Preferences that it does not know are
// ignored, with their values and parameters, and so is each but the first of a name
// (section 2). What does not follow the grammar is refused: a call that was meant to be
// queued is not run at once because of a slip.
func preferencesOf(lines [][]byte) (found preferences, err error) {
	for _, line := range lines {
		rest := line
		for {
			rest = bytes.TrimLeft(rest, " \t,") // empty elements are to be ignored (RFC 9110, 5.6.1.2)
			if len(rest) == 0 {
				break
			}
			var name, value []byte
			var ok bool
			if name, value, rest, ok = cutPreference(rest); !ok {
				return preferences{}, problem.New(problem.BadParameter, "The header Prefer is %q, which cannot be read; want preferences separated by commas, such as respond-async, wait=10.", truncate(line, 128))
			}
			if err := found.take(name, value); err != nil {
				return preferences{}, err
			}
		}
	}
	return found, nil
}

// take notes a preference.
func (p *preferences) take(name, value []byte) error {
	switch {
	case equalFold(name, "respond-async") && len(value) > 0:
		return problem.New(problem.BadParameter, "The preference respond-async has the value %q; it takes none.", truncate(value, 64))
	case equalFold(name, "respond-async"):
		p.respondAsync = true
	case equalFold(name, "wait") && !p.waits:
		seconds, ok := wholeSecondsOf(value)
		if !ok {
			return problem.New(problem.BadParameter, "The preference wait is %q; want a whole number of seconds, such as wait=10 (above %d counts as %d).", truncate(value, 64), int(mostWait.Seconds()), int(mostWait.Seconds()))
		}
		p.waits, p.wait = true, seconds
	case equalFold(name, "handling") && !p.handles:
		p.handles, p.strict = true, equalFold(value, "strict")
	}
	return nil
}

// wholeSecondsOf reads digits, and answers at most mostWait.
func wholeSecondsOf(value []byte) (time.Duration, bool) {
	wait := time.Duration(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		wait = min(10*wait+time.Duration(c-'0')*time.Second, mostWait)
	}
	return wait, len(value) > 0
}

// cutPreference reads the first preference of a list, and what follows it: the rest of
// the list, from its comma on. The grammar is that of RFC 7240, section 2, as corrected
// by its erratum 4439:
//
//	preference = preference-parameter *( OWS ";" [ OWS preference-parameter ] )
//	preference-parameter = token [ BWS "=" BWS word ]
func cutPreference(list []byte) (name, value, rest []byte, ok bool) {
	if name, value, rest, ok = cutParameter(list); !ok {
		return nil, nil, nil, false
	}
	for {
		rest = bytes.TrimLeft(rest, " \t")
		if len(rest) == 0 || rest[0] == ',' {
			return name, value, rest, true
		}
		if rest[0] != ';' {
			return nil, nil, nil, false
		}
		rest = bytes.TrimLeft(rest[1:], " \t")
		if len(rest) > 0 && rest[0] != ';' && rest[0] != ',' {
			if _, _, rest, ok = cutParameter(rest); !ok {
				return nil, nil, nil, false
			}
		}
	}
}

// cutParameter reads a name, and its value if it has one.
func cutParameter(text []byte) (name, value, rest []byte, ok bool) {
	name, rest = cutToken(text)
	if len(name) == 0 {
		return nil, nil, nil, false
	}
	after, is := bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte("="))
	if !is {
		return name, nil, rest, true
	}
	after = bytes.TrimLeft(after, " \t")
	if len(after) > 0 && after[0] == '"' {
		value, rest, ok = cutQuoted(after[1:])
		return name, value, rest, ok
	}
	value, rest = cutToken(after)
	return name, value, rest, len(value) > 0
}

func cutToken(text []byte) (token, rest []byte) {
	for i, c := range text {
		if !tokenBytes[c] {
			return text[:i], text[i:]
		}
	}
	return text, nil
}

// cutQuoted reads a quoted-string (RFC 9110, 5.6.4) after its first quote.
func cutQuoted(text []byte) (value, rest []byte, ok bool) {
	escaped := false
	for i, c := range text {
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			return unescape(text[:i]), text[i+1:], true
		}
	}
	return nil, nil, false
}

// unescape takes the backslashes out that quote a character.
func unescape(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++ // cutQuoted has seen that there is one more
		}
		plain = append(plain, text[i])
	}
	return plain
}
