package management

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lightcone/internal/problem"
)

// mostBody bounds a request's body.
const mostBody = 64 << 10

// field is one field that a body may have.
type field struct {
	name string
	want string // what it holds, for the sentence to who sent something else
	into any    // a pointer
}

// readBody reads a request's body into its fields.
func readBody(w http.ResponseWriter, r *http.Request, fields ...field) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return problem.New(problem.TooLarge, "The body is larger than %d bytes.", mostBody)
	}
	if err != nil {
		return problem.New(problem.LengthMismatch, "The body did not arrive whole.").Because(err)
	}
	return decodeBody(body, fields)
}

// decodeBody reads one JSON object (RFC 8259) and nothing after it. A field that
// is unknown, twice there or of another kind is a problem.BadParameter that names
// it; null is as good as left out. encoding/json alone would take "ID" for "id",
// and the last of two.
func decodeBody(body []byte, fields []field) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return bad("the body is no JSON object; it may have the fields %s", namesOf(fields))
	}
	seen := make(map[string]bool, len(fields))
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return damaged(decoder)
		}
		if seen[name] {
			return bad("the body has the field %s twice", quoted(name))
		}
		seen[name] = true
		if err := decodeField(decoder, name, fields); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return damaged(decoder)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return bad("the body goes on after its JSON object")
	}
	return nil
}

func decodeField(decoder *json.Decoder, name string, fields []field) error {
	for _, f := range fields {
		if f.name != name {
			continue
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return damaged(decoder)
		}
		if err := json.Unmarshal(value, f.into); err != nil {
			return bad("%s is not %s", f.name, f.want)
		}
		return nil
	}
	return bad("the body has the field %s, which is unknown here; it may have %s", quoted(name), namesOf(fields))
}

func damaged(decoder *json.Decoder) error {
	return bad("the body is no JSON from byte %d on, or is cut short", decoder.InputOffset())
}

// quoted bounds what an answer repeats.
func quoted(name string) string { return fmt.Sprintf("%.64q", name) }

func namesOf(fields []field) string {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// page is what a request asks of a list.
type page struct {
	after string
	limit int
}

const usualPerPage = 100

// pageOfQuery reads the parameters after and limit, or those of them that are
// named; anything else in the query is a problem.BadParameter.
func pageOfQuery(raw string, names ...string) (page, error) {
	p := page{limit: usualPerPage}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return p, bad("the query cannot be read; it may have %s", strings.Join(names, ", "))
	}
	for name, values := range query {
		if !slices.Contains(names, name) {
			return p, bad("the query has %s, which is unknown here; it may have %s", quoted(name), strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return p, bad("the query has %s twice", quoted(name))
		}
		switch name {
		case "after":
			p.after = values[0]
		case "limit":
			if p.limit, err = strconv.Atoi(values[0]); err != nil || p.limit < 1 || p.limit > MostPerPage {
				return p, bad("limit is %s; want a whole number from 1 to %d", quoted(values[0]), MostPerPage)
			}
		}
	}
	return p, nil
}

// number is after as the number of an audit entry.
func (p page) number() (uint64, error) {
	if p.after == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(p.after, 10, 63)
	if err != nil {
		return 0, bad("after is %s; want the number of an entry", quoted(p.after))
	}
	return n, nil
}

// versionsOf reads If-Match (RFC 9110, section 13.1.1): the versions of which
// a document must have one; none means any. What is well-formed and cannot be a version of
// ours, a weak validator too, is 0, which no document has.
func versionsOf(header []string) (versions []uint64, err error) {
	all := strings.Join(header, ",")
	if len(header) == 0 || strings.TrimSpace(all) == "*" {
		return nil, nil
	}
	for tag := range strings.SplitSeq(all, ",") {
		opaque, strong := strings.TrimSpace(tag), true
		if rest, weak := strings.CutPrefix(opaque, "W/"); weak {
			opaque, strong = rest, false
		}
		if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
			return nil, bad("If-Match is not a list of ETags; send one as it came, with its quotes")
		}
		version, err := strconv.ParseUint(opaque[1:len(opaque)-1], 10, 64)
		if err != nil || !strong || opaque != etagOf(version) {
			version = 0
		}
		versions = append(versions, version)
	}
	return versions, nil
}

func etagOf(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }
