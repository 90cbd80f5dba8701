package client

import (
	"mime"
	"path"
	"slices"
	"strings"
)

// extensions gives each content type its file name extensions, the one to write
// first. It is the project's own table, so that names do not depend on the
// machine's mime.types. Plain text is not in it: it goes by many names.
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

// Names decides what each file of a folder is called once it has been through a
// function, so that no two outputs meet: a.jpg that became WebP is a.webp, but
// where a.png is to be found beside it they become a.jpg.webp and a.png.webp.
type Names struct {
	beginnings map[string]int // how many inputs begin so, counted at every dot and at the end
	inputs     map[string]bool
}

// NamesFor prepares the naming of inputs, which are slash-separated paths below
// one folder.
func NamesFor(inputs []string) *Names {
	n := &Names{beginnings: make(map[string]int), inputs: make(map[string]bool, len(inputs))}
	for _, input := range inputs {
		n.inputs[input] = true
		n.beginnings[input]++
		for i := len(input) - 1; i >= 0 && input[i] != '/'; i-- {
			if input[i] == '.' {
				n.beginnings[input[:i]]++
			}
		}
	}
	return n
}

// Output is where the result of input goes: its name as it is where that fits
// the content type, or where the table does not know the type.
func (n *Names) Output(input, contentType string) string {
	media, _, _ := mime.ParseMediaType(contentType) // an unusable type reads as none
	known := extensions[media]
	stem, extension := splitExtension(input)
	fits := len(known) == 0 || slices.ContainsFunc(known, func(e string) bool { return strings.EqualFold(extension, e) })
	switch contested := n.inputs[stem] && isWritten(extension); {
	case fits && !contested:
		return input
	case len(known) == 0:
		return input + unknownExtension
	default:
		return n.base(input) + known[0]
	}
}

// isWritten says whether the result of another input could be given extension.
func isWritten(extension string) bool {
	for _, known := range extensions {
		if known[0] == extension {
			return true
		}
	}
	return extension == unknownExtension
}

// Candidates are the names that the result of input may have, of whatever type
// it turns out to be.
func (n *Names) Candidates(input string) []string {
	names := []string{input, input + unknownExtension}
	base := n.base(input)
	for _, known := range extensions {
		if name := base + known[0]; name != input {
			names = append(names, name)
		}
	}
	return names
}

// base is what a new extension is put behind: the name without its old one,
// unless another input could end up with the same.
func (n *Names) base(input string) string {
	stem, extension := splitExtension(input)
	if extension == "" || n.beginnings[stem] > 1 {
		return input
	}
	return stem
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
