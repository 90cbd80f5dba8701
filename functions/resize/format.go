package resize

import (
	"bytes"
	"strings"

	"lightcone/internal/problem"
)

// format is an image file format, as the format parameter and errors name it.
type format string

// The formats read; jpeg, png, webp and avif are also written.
const (
	jpegFormat format = "jpeg"
	pngFormat  format = "png"
	webpFormat format = "webp"
	avifFormat format = "avif"
	gifFormat  format = "gif"
	heicFormat format = "heic"
)

// contentType is the format's registered media type.
func (f format) contentType() string { return "image/" + string(f) }

// hasAlpha says whether the format can hold transparent pixels.
func (f format) hasAlpha() bool { return f != jpegFormat }

// defaultOutput is the format an input comes back in when the caller names none:
// its own, or the nearest one written.
func (f format) defaultOutput() format {
	switch f {
	case gifFormat:
		return pngFormat
	case heicFormat:
		return jpegFormat
	default:
		return f
	}
}

const readable = "JPEG, PNG, WebP, GIF, AVIF and HEIC images are read"

// sniff tells an input's format by its first bytes, whatever its Content-Type
// said. The signatures are those of the formats' own specifications.
func sniff(input []byte) (format, error) {
	switch {
	case len(input) == 0:
		return "", problem.New(problem.UnsupportedMedia, "The body is empty; %s.", readable)
	case bytes.HasPrefix(input, []byte{0xff, 0xd8, 0xff}):
		return jpegFormat, nil
	case bytes.HasPrefix(input, []byte("\x89PNG\r\n\x1a\n")):
		return pngFormat, nil
	case bytes.HasPrefix(input, []byte("GIF87a")), bytes.HasPrefix(input, []byte("GIF89a")):
		return gifFormat, nil
	case len(input) >= 12 && string(input[:4]) == "RIFF" && string(input[8:12]) == "WEBP":
		return webpFormat, nil
	}
	if found := sniffHEIF(input); found != "" {
		return found, nil
	}
	if name := lookalike(input); name != "" {
		return "", problem.New(problem.UnsupportedMedia, "The body looks like %s; %s.", name, readable)
	}
	return "", problem.New(problem.UnsupportedMedia, "The body is not an image of a known kind; %s.", readable)
}

// sniffHEIF tells AVIF from HEIC by the brands in the file type box (ISO/IEC
// 14496-12, 4.3), which both containers start with.
func sniffHEIF(input []byte) format {
	if len(input) < 16 || string(input[4:8]) != "ftyp" {
		return ""
	}
	box := int(input[0])<<24 | int(input[1])<<16 | int(input[2])<<8 | int(input[3])
	box = min(box, len(input), 256) // far more brands than any encoder writes
	generic := false
	for at := 8; at+4 <= box; at += 4 {
		if at == 12 {
			continue // the minor version
		}
		switch string(input[at : at+4]) {
		case "avif", "avis":
			return avifFormat
		case "heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs":
			return heicFormat
		case "mif1", "msf1":
			generic = true
		}
	}
	if generic {
		return heicFormat
	}
	return ""
}

// lookalike names what people send by mistake, so that the refusal can say so.
func lookalike(input []byte) string {
	for _, known := range []struct{ prefix, name string }{
		{"%PDF-", "a PDF document"},
		{"II*\x00", "a TIFF image"},
		{"MM\x00*", "a TIFF image"},
		{"BM", "a BMP image"},
		{"\x00\x00\x01\x00", "an icon (ICO)"},
		{"8BPS", "a Photoshop document"},
		{"\xff\x0a", "a JPEG XL image"},
		{"\x00\x00\x00\x0cJXL ", "a JPEG XL image"},
		{"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"},
		{"PK\x03\x04", "a ZIP archive"},
		{"\x1f\x8b", "gzip-compressed data"},
	} {
		if bytes.HasPrefix(input, []byte(known.prefix)) {
			return known.name
		}
	}
	if len(input) >= 12 && string(input[4:8]) == "ftyp" {
		return "a video or other ISO media file"
	}
	head := strings.ToLower(strings.TrimLeft(string(input[:min(len(input), 512)]), "\ufeff \t\r\n"))
	switch {
	case strings.HasPrefix(head, "<svg"), strings.HasPrefix(head, "<?xml") && strings.Contains(head, "<svg"):
		return "an SVG drawing"
	case strings.HasPrefix(head, "<!doctype html"), strings.HasPrefix(head, "<html"), strings.HasPrefix(head, "<head"), strings.HasPrefix(head, "<body"):
		return "an HTML page"
	case strings.HasPrefix(head, "<?xml"):
		return "XML"
	case strings.HasPrefix(head, "{"), strings.HasPrefix(head, "["):
		return "JSON"
	}
	return ""
}

// article names the format in a sentence.
func (f format) article() string {
	switch f {
	case webpFormat:
		return "a WebP image"
	case avifFormat:
		return "an AVIF image"
	default:
		return "a " + strings.ToUpper(string(f)) + " image"
	}
}
