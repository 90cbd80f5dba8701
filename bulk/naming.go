package bulk

import (
	"fmt"
	"mime"
	"path"
	"slices"
	"strings"
)

// extensions gives each content type its file name extensions, the one to write
// first: the table of package client, so that a folder called over HTTP and a
// folder worked through here get the same names.
var extensions = map[string][]string{
	"image/jpeg":       {".jpg", ".jpeg", ".jpe", ".jfif"},
	"image/png":        {".png"},
	"image/webp":       {".webp"},
	"image/avif":       {".avif"},
	"image/gif":        {".gif"},
	"image/heic":       {".heic", ".heif"},
	"image/tiff":       {".tif", ".tiff"},
	"image/svg+xml":    {".svg"},
	"application/json": {".json"},
	"application/pdf":  {".pdf"},
	"text/html":        {".html", ".htm"},
}

// unknownExtension tells apart what cannot be told apart by type.
const unknownExtension = ".bin"

// candidate is an object to be worked on, and what its neighbours' names leave
// of the choice of its own.
type candidate struct {
	Object
	taken   bool // there is an object called like this one without its extension
	crowded bool // or one, of whatever extension, that goes on after that with a dot
}

// output is what the result of c is called: c's key as it is where that fits the
// content type, or where the table does not know the type; else with another
// extension, behind the old one where two results could otherwise meet.
func (c candidate) output(contentType string) string {
	media, _, _ := mime.ParseMediaType(contentType) // an unusable type reads as none
	known := extensions[media]
	stem, extension := splitExtension(c.Key)
	fits := len(known) == 0 || slices.ContainsFunc(known, func(e string) bool { return strings.EqualFold(extension, e) })
	switch contested := c.taken && isWritten(extension); {
	case fits && !contested:
		return c.Key
	case len(known) == 0:
		return c.Key + unknownExtension
	case extension == "" || c.crowded:
		return c.Key + known[0]
	default:
		return stem + known[0]
	}
}

// isWritten says whether the result of another object could be given extension.
func isWritten(extension string) bool {
	for _, known := range extensions {
		if known[0] == extension {
			return true
		}
	}
	return extension == unknownExtension
}

// splitExtension cuts "a/b.jpg" into "a/b" and ".jpg". A leading dot hides a
// file and starts no extension.
func splitExtension(name string) (stem, extension string) {
	extension = path.Ext(name)
	stem = strings.TrimSuffix(name, extension)
	if stem == "" || strings.HasSuffix(stem, "/") {
		return name, ""
	}
	return stem, extension
}

// namer turns a listing in the order of keys into candidates, one behind, with
// memory for a path's depth and not for the listing: the keys that begin with
// some text stand together, directly behind that text itself. So whoever could
// contest a name is the next, the one before, or among those that the key
// continues.
//
// Unlike package client it counts x.d/y.jpg as a neighbour of x.jpg: x.jpg then
// becomes x.jpg.webp, though x.webp would do.
type namer struct {
	above    []string // earlier keys that the waiting one continues, shortest first
	previous string   // the key before the waiting one
	waiting  Object
	begun    bool
}

// next takes the listing's next object and settles the one before, if any.
func (n *namer) next(o Object) (settled candidate, any bool, err error) {
	if n.begun && o.Key <= n.waiting.Key {
		return candidate{}, false, fmt.Errorf("the listing has %q after %q: want the order of keys, as S3's general purpose buckets list", o.Key, n.waiting.Key)
	}
	if n.begun {
		settled, any = n.settle(o.Key), true
		n.above, n.previous = append(n.above, n.waiting.Key), n.waiting.Key
	}
	for len(n.above) > 0 && !strings.HasPrefix(o.Key, n.above[len(n.above)-1]) {
		n.above = n.above[:len(n.above)-1]
	}
	n.waiting, n.begun = o, true
	return settled, any, nil
}

// last settles the listing's last object, if there was one.
func (n *namer) last() (candidate, bool) { return n.settle(""), n.begun }

func (n *namer) settle(following string) candidate {
	c := candidate{Object: n.waiting}
	stem, extension := splitExtension(c.Key)
	if extension == "" {
		return c
	}
	c.taken = slices.Contains(n.above, stem)
	c.crowded = c.taken || strings.HasPrefix(n.previous, stem+".") || strings.HasPrefix(following, stem+".")
	return c
}
