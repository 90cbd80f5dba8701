package resize

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone/internal/problem"
)

func mustPlan(t *testing.T, query string, h header, accept string) plan {
	t.Helper()
	p, err := ParseParams(query)
	if err != nil {
		t.Fatal(err)
	}
	made, err := decide(p, h, accept)
	if err != nil {
		t.Fatalf("%q: %v", query, err)
	}
	return made
}

// upright is the main job's input.
var upright = header{format: jpegFormat, stored: size{2560, 1600}, orientation: 1}

func TestRoutes(t *testing.T) {
	with := func(change func(*header)) header {
		h := upright
		change(&h)
		return h
	}
	for _, test := range []struct {
		name   string
		query  string
		header header
		plain  bool
	}{
		{"the main job", "width=300", upright, true},
		{"grey", "width=300", with(func(h *header) { h.space = spaceGrey }), true},
		{"an sRGB profile", "width=300", with(func(h *header) { h.profile = srgbProfile }), true},
		{"a crop", "width=300&height=300&fit=cover", upright, true},
		{"effects and another format", "width=300&blur=1&sharpen=1&format=avif", upright, true},
		{"kept metadata", "width=300&strip=false", upright, true},
		{"kept metadata with a profile", "width=300&strip=false", with(func(h *header) { h.profile = otherProfile }), true},
		{"a turn that undoes the orientation", "width=300&rotate=270", with(func(h *header) { h.orientation = 6 }), true},
		{"the same, with the tag kept", "width=300&rotate=270&strip=false", with(func(h *header) { h.orientation = 6 }), false},
		{"a turn", "width=300&rotate=90", upright, false},
		{"an orientation", "width=300", with(func(h *header) { h.orientation = 6 }), false},
		{"Display P3", "width=300", with(func(h *header) { h.profile = otherProfile }), false},
		{"CMYK", "width=300", with(func(h *header) { h.space = spaceCMYK }), false},
		{"PNG", "width=300", with(func(h *header) { h.format = pngFormat }), false},
		{"a smart crop", "width=300&height=300&fit=cover&gravity=smart", upright, false},
		{"smart with nothing to crop", "width=320&height=200&fit=cover&gravity=smart", upright, true},
		{"padding", "width=300&height=300&fit=pad", upright, false},
		{"stretching", "width=300&height=1500&fit=fill", upright, false},
		{"enlarging", "width=3000&fit=contain", upright, false},
		{"too large to hold whole", "", with(func(h *header) { h.stored = size{8000, 6000} }), false},
		{"large, but decoded small", "width=400", with(func(h *header) { h.stored = size{8000, 6000} }), true},
	} {
		if got := mustPlan(t, test.query, test.header, "").plain; got != test.plain {
			t.Errorf("%s (%s): plain is %v, want %v", test.name, test.query, got, test.plain)
		}
	}
}

func TestFormatsAndBackgrounds(t *testing.T) {
	type outcome struct {
		Format            format
		Quality           int
		Flatten, PadClear bool
		Vary              bool
	}
	const browser = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
	for _, test := range []struct {
		name   string
		input  format
		alpha  bool
		query  string
		accept string
		want   outcome
	}{
		{"JPEG stays", jpegFormat, false, "", browser, outcome{Format: jpegFormat, Quality: 80}},
		{"PNG stays", pngFormat, true, "", "", outcome{Format: pngFormat, Quality: 100}},
		{"WebP stays", webpFormat, true, "", "", outcome{Format: webpFormat, Quality: 80}},
		{"AVIF stays", avifFormat, true, "", "", outcome{Format: avifFormat, Quality: 50}},
		{"GIF becomes PNG", gifFormat, true, "", "", outcome{Format: pngFormat, Quality: 100}},
		{"HEIC becomes JPEG", heicFormat, true, "", "", outcome{Format: jpegFormat, Quality: 80, Flatten: true}},
		{"quality given", jpegFormat, false, "quality=33", "", outcome{Format: jpegFormat, Quality: 33}},
		{"alpha into JPEG", pngFormat, true, "format=jpeg", "", outcome{Format: jpegFormat, Quality: 80, Flatten: true}},
		{"a colour behind alpha", pngFormat, true, "background=f00", "", outcome{Format: pngFormat, Quality: 100, Flatten: true}},
		{"a colour behind nothing", pngFormat, false, "background=f00", "", outcome{Format: pngFormat, Quality: 100}},
		{"transparent asked", pngFormat, true, "background=transparent", "", outcome{Format: pngFormat, Quality: 100}},
		{"auto, a browser", jpegFormat, false, "format=auto", browser, outcome{Format: avifFormat, Quality: 50, Vary: true}},
		{"auto, no header", jpegFormat, false, "format=auto", "", outcome{Format: jpegFormat, Quality: 80, Vary: true}},
		{"auto, no header, alpha", webpFormat, true, "format=auto", "", outcome{Format: pngFormat, Quality: 100, Vary: true}},
		{"auto, alpha on a colour", webpFormat, true, "format=auto&background=fff", "", outcome{Format: jpegFormat, Quality: 80, Flatten: true, Vary: true}},
		{"padding a JPEG", jpegFormat, false, "width=99&height=99&fit=pad", "", outcome{Format: jpegFormat, Quality: 80}},
		{"padding a PNG", pngFormat, false, "width=99&height=99&fit=pad", "", outcome{Format: pngFormat, Quality: 100, PadClear: true}},
		{"padding a PNG with a colour", pngFormat, true, "width=99&height=99&fit=pad&background=00f", "", outcome{Format: pngFormat, Quality: 100, Flatten: true}},
		{"auto, clear padding asked", jpegFormat, false, "width=99&height=99&fit=pad&background=transparent&format=auto", "", outcome{Format: pngFormat, Quality: 100, PadClear: true, Vary: true}},
	} {
		made := mustPlan(t, test.query, header{format: test.input, stored: size{640, 400}, orientation: 1, alpha: test.alpha}, test.accept)
		got := outcome{made.format, made.quality, made.flatten, made.padClear, made.vary}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestTooManyPixels(t *testing.T) {
	p, err := ParseParams("width=300")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		stored  size
		refused bool
	}{
		{size{10000, 5000}, false},
		{size{10000, 5001}, true},
		{size{60000, 60000}, true},
		{size{1, 50_000_000}, false},
	} {
		_, err := decide(p, header{format: pngFormat, stored: test.stored, orientation: 1}, "")
		if test.refused {
			wantKind(t, err, problem.TooManyPixels)
		} else if err != nil && problem.Of(err).Kind == problem.TooManyPixels {
			t.Errorf("%v: %v", test.stored, err)
		}
	}
}

// The decoder may only ever do a part of a shrink: what it leaves is at least as
// large as what is wanted, or pixels would be made up.
func TestDecodersNeverShrinkTooFar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, image := aCall(t)
		h := header{
			format:      rapid.SampledFrom([]format{jpegFormat, pngFormat, webpFormat}).Draw(t, "format"),
			stored:      image,
			orientation: rapid.IntRange(1, 8).Draw(t, "orientation"),
		}
		made, err := decide(p, h, "")
		if err != nil {
			return
		}
		wanted := made.source()
		if made.turn.size(wanted) != made.layout.scaled {
			t.Fatalf("the source %v is not turned into %v by %v", wanted, made.layout.scaled, made.turn)
		}
		decoded := size{h.stored.width / made.jpegShrink, h.stored.height / made.jpegShrink}
		if made.jpegShrink > 1 && (decoded.width < wanted.width || decoded.height < wanted.height) {
			t.Fatalf("libjpeg leaves %v of %v for %v", decoded, h.stored, wanted)
		}
		if made.webpScale < 1 && (float64(h.stored.width)*made.webpScale < 1.99*float64(wanted.width) || float64(h.stored.height)*made.webpScale < 1.99*float64(wanted.height)) {
			t.Fatalf("libwebp scales %v by %v for %v", h.stored, made.webpScale, wanted)
		}
		if made.plain && made.jpegShrink == 1 && h.stored != wanted && (wanted.width > h.stored.width || wanted.height > h.stored.height) {
			t.Fatalf("the plain route enlarges %v to %v", h.stored, wanted)
		}
	})
}
