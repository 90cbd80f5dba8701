// Package naming decides what the result of a file is called once a function has
// worked on it, so that a folder sent over HTTP and a folder worked through by a
// batch get the same names: a.jpg that became WebP is a.webp.
//
// Invariants: everything here is pure, and goes by the project's own table of
// extensions, not by the machine's mime.types; two files whose neighbours are told
// truly never get the same name.
//
// It does not list folders: whoever does says who a name's neighbours are.
package naming

import (
	"mime"
	"path"
	"slices"
	"strings"
)

// extensions gives each content type its file name extensions, the one to write
// first. Plain text is not in it: it goes by many names.
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

// Name is a file's slash-separated path, and what its neighbours leave of the
// choice of its result's.
type Name struct {
	Path    string
	Taken   bool // there is a file called like this one without its extension
	Crowded bool // or one, of whatever extension, that goes on after that with a dot
}

// Output is what the result is called: the path as it is where that fits the
// content type, or where the table does not know the type; else with another
// extension, behind the old one where two results could otherwise meet.
func (n Name) Output(contentType string) string {
	media, _, _ := mime.ParseMediaType(contentType) // an unusable type reads as none
	known := extensions[media]
	_, extension := Split(n.Path)
	fits := len(known) == 0 || slices.ContainsFunc(known, func(e string) bool { return strings.EqualFold(extension, e) })
	switch contested := n.Taken && isWritten(extension); {
	case fits && !contested:
		return n.Path
	case len(known) == 0:
		return n.Path + unknownExtension
	default:
		return n.base() + known[0]
	}
}

// Candidates are the names that Output may give, whatever the type turns out to be.
func (n Name) Candidates() []string {
	names := []string{n.Path, n.Path + unknownExtension}
	base := n.base()
	for _, known := range extensions {
		if name := base + known[0]; name != n.Path {
			names = append(names, name)
		}
	}
	return names
}

// base is what a new extension is put behind.
func (n Name) base() string {
	stem, extension := Split(n.Path)
	if extension == "" || n.Crowded {
		return n.Path
	}
	return stem
}

// isWritten says whether the result of another file could be given extension.
func isWritten(extension string) bool {
	for _, known := range extensions {
		if known[0] == extension {
			return true
		}
	}
	return extension == unknownExtension
}

// Split cuts "a/b.jpg" into "a/b" and ".jpg". A leading dot hides a file and
// starts no extension.
func Split(name string) (stem, extension string) {
	extension = path.Ext(name)
	stem = strings.TrimSuffix(name, extension)
	if stem == "" || strings.HasSuffix(stem, "/") {
		return name, ""
	}
	return stem, extension
}
