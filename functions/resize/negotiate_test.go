package resize

import (
	"strings"
	"testing"

	"lightcone/internal/problem"
)

func TestNegotiate(t *testing.T) {
	for _, test := range []struct {
		accept string
		alpha  bool
		want   format
	}{
		{"", false, jpegFormat},
		{"", true, pngFormat},
		{"*/*", false, jpegFormat},
		{"image/*", true, pngFormat},
		{"image/avif,image/webp,*/*;q=0.8", false, avifFormat},
		{"image/webp,*/*;q=0.8", false, webpFormat},
		{"image/webp,*/*", true, webpFormat},
		{"IMAGE/WEBP", false, webpFormat},
		{"image/avif;q=0,image/webp;q=0.0,*/*", false, jpegFormat},
		{"image/avif;q=0.5,image/webp;q=0.9", false, webpFormat},
		{"image/avif;q=0.5,image/webp;q=0.5", false, avifFormat},
		{"image/webp;q=0.5,image/jpeg", false, jpegFormat},
		{"image/webp;q=0.5,image/jpeg", true, webpFormat},
		{"image/webp ; Q=0.5 , image/* ; q=0.4", false, webpFormat},
		{"image/avif;q=nonsense", false, jpegFormat},
		{"image/avif;q=2", false, jpegFormat},
		{"text/html", false, jpegFormat},
		{";;,,=;q", false, jpegFormat},
	} {
		if got := negotiate(test.accept, test.alpha); got != test.want {
			t.Errorf("%q (alpha %v): got %s, want %s", test.accept, test.alpha, got, test.want)
		}
	}
}

func TestSniff(t *testing.T) {
	for _, test := range []struct {
		input string
		want  format
	}{
		{"\xff\xd8\xff\xe0", jpegFormat},
		{"\x89PNG\r\n\x1a\n", pngFormat},
		{"GIF87a", gifFormat},
		{"GIF89a", gifFormat},
		{"RIFF\x00\x00\x00\x00WEBP", webpFormat},
		{"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1miaf", avifFormat},
		{"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif", avifFormat},
		{"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", heicFormat},
		{"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00mif1", heicFormat},
	} {
		if got, err := sniff([]byte(test.input)); err != nil || got != test.want {
			t.Errorf("%q: got %q (error %v), want %q", test.input, got, err, test.want)
		}
	}
}

func TestWhatIsNoImageIsNamed(t *testing.T) {
	for _, test := range []struct{ input, says string }{
		{"", "empty"},
		{"\xff", "not an image"},
		{"\x89PNG", "not an image"},
		{"hello, world", "not an image"},
		{"<!DOCTYPE html><html>", "HTML"},
		{" \r\n<HTML>", "HTML"},
		{"<svg xmlns=", "SVG"},
		{"\ufeff<?xml version=\"1.0\"?>\n<!-- a --><svg>", "SVG"},
		{"<?xml version=\"1.0\"?><a/>", "XML"},
		{"{\"error\":1}", "JSON"},
		{"%PDF-1.7", "PDF"},
		{"II*\x00\x08\x00", "TIFF"},
		{"MM\x00*\x00\x00", "TIFF"},
		{"BM\x00\x00", "BMP"},
		{"PK\x03\x04", "ZIP"},
		{"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "video"},
		{"RIFF\x00\x00\x00\x00WAVE", "not an image"},
	} {
		_, err := sniff([]byte(test.input))
		wantKind(t, err, problem.UnsupportedMedia)
		if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "WebP") {
			t.Errorf("%q: %q does not say %q and what is read", test.input, err, test.says)
		}
	}
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif"))
	f.Add([]byte("\xff\xff\xff\xffftypmif1"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if _, err := sniff(input); err != nil {
			wantKind(t, err, problem.UnsupportedMedia)
		}
	})
}
