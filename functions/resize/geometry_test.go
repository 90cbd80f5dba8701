package resize

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lightcone/internal/problem"
)

func TestArrange(t *testing.T) {
	whole := func(w, h int) layout { return layout{size{w, h}, area{size: size{w, h}}, size{w, h}} }
	for _, test := range []struct {
		query string
		image size
		want  layout
	}{
		{"", size{640, 480}, whole(640, 480)},
		{"dpr=2", size{640, 480}, whole(640, 480)},
		{"width=300", size{2560, 1600}, whole(300, 188)},
		{"height=300", size{2560, 1600}, whole(480, 300)},
		{"width=3000", size{2560, 1600}, whole(2560, 1600)},
		{"width=3000&fit=contain", size{2560, 1600}, whole(3000, 1875)},
		{"width=100&dpr=2.5", size{1000, 500}, whole(250, 125)},
		{"width=300&height=300", size{2560, 1600}, whole(300, 188)},
		{"width=300&height=100", size{2560, 1600}, whole(160, 100)},
		{"width=5000&height=800", size{2560, 1600}, whole(1280, 800)},
		{"width=5000&height=5000", size{2560, 1600}, whole(2560, 1600)},
		{"width=5000&height=5000&fit=contain", size{2560, 1600}, whole(5000, 3125)},
		{"width=300&height=300&fit=fill", size{2560, 1600}, whole(300, 300)},
		{"width=300&fit=fill", size{2560, 1600}, whole(300, 188)},
		{"width=300&fit=cover", size{2560, 1600}, whole(300, 188)},
		{"width=3000&fit=cover", size{1500, 1000}, whole(3000, 2000)},
		{"width=300&fit=pad", size{2560, 1600}, whole(300, 188)},
		{"width=3&height=3", size{1000, 1}, whole(3, 1)},
		{"width=300&height=300&fit=cover", size{2560, 1600}, layout{size{480, 300}, area{90, 0, size{300, 300}}, size{300, 300}}},
		{"width=300&height=300&fit=cover&gravity=west", size{2560, 1600}, layout{size{480, 300}, area{0, 0, size{300, 300}}, size{300, 300}}},
		{"width=300&height=300&fit=cover&gravity=east", size{2560, 1600}, layout{size{480, 300}, area{180, 0, size{300, 300}}, size{300, 300}}},
		{"width=300&height=300&fit=cover&gravity=north", size{1600, 2560}, layout{size{300, 480}, area{0, 0, size{300, 300}}, size{300, 300}}},
		{"width=300&height=300&fit=cover&gravity=south-west", size{1600, 2560}, layout{size{300, 480}, area{0, 180, size{300, 300}}, size{300, 300}}},
		{"width=300&height=300&fit=pad", size{2560, 1600}, layout{size{300, 188}, area{size: size{300, 188}}, size{300, 300}}},
		{"width=600&height=600&fit=pad", size{60, 30}, layout{size{600, 300}, area{size: size{600, 300}}, size{600, 600}}},
	} {
		p, err := ParseParams(test.query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := arrange(p, test.image); err != nil || got != test.want {
			t.Errorf("%q of %v: got %+v (error %v), want %+v", test.query, test.image, got, err, test.want)
		}
	}
}

func TestTooLargeOutputsAreRefusedByName(t *testing.T) {
	for _, test := range []struct {
		query string
		image size
		says  string
	}{
		{"", size{9000, 100}, "width would be 9000 px"},
		{"", size{100, 9000}, "height would be 9000 px"},
		{"width=1000&fit=contain", size{10, 100}, "height would be 10000 px"},
		{"height=8192&fit=contain", size{101, 100}, "width would be 8274 px"},
		{"width=8192&height=8192&fit=cover", size{50000, 1}, "too large"},
		{"width=8192&height=8192&fit=cover&gravity=smart", size{200, 100}, "too large"},
	} {
		p, err := ParseParams(test.query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = arrange(p, test.image)
		wantKind(t, err, problem.BadParameter)
		if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q of %v: %q does not say %q", test.query, test.image, err, test.says)
		}
	}
}

// aCall draws a fit, a box and an image.
func aCall(t *rapid.T) (Params, size) {
	p := Params{
		fit:     rapid.SampledFrom([]fit{fitContain, fitCover, fitFill, fitScaleDown, fitPad}).Draw(t, "fit"),
		gravity: rapid.SampledFrom([]gravity{gravityCenter, "north", "south-east", "west", gravitySmart}).Draw(t, "gravity"),
		dpr:     rapid.SampledFrom([]float64{0.1, 0.5, 1, 1.5, 2, 8}).Draw(t, "dpr"),
		width:   rapid.IntRange(0, 1024).Draw(t, "width"),
		height:  rapid.IntRange(0, 1024).Draw(t, "height"),
	}
	return p, size{rapid.IntRange(1, 12000).Draw(t, "image width"), rapid.IntRange(1, 12000).Draw(t, "image height")}
}

func TestLayoutsKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, image := aCall(t)
		l, err := arrange(p, image)
		if err != nil {
			wantKindRapid(t, err)
			return
		}
		box := size{scaled(p.width, p.dpr), scaled(p.height, p.dpr)}
		both := box.width > 0 && box.height > 0
		if l.canvas.width < 1 || l.canvas.height < 1 || l.canvas.width > maxSide || l.canvas.height > maxSide {
			t.Fatalf("the output is %v", l.canvas)
		}
		if box.width > 0 && l.canvas.width > box.width || box.height > 0 && l.canvas.height > box.height {
			t.Fatalf("the output %v is outside the box %v", l.canvas, box)
		}
		if both && (p.fit == fitCover || p.fit == fitFill || p.fit == fitPad) && l.canvas != box {
			t.Fatalf("%s: the output is %v, the box %v", p.fit, l.canvas, box)
		}
		if both && p.fit == fitContain && l.canvas.width != box.width && l.canvas.height != box.height {
			t.Fatalf("contain: the output %v touches no side of the box %v", l.canvas, box)
		}
		if p.fit == fitScaleDown && (l.scaled.width > image.width || l.scaled.height > image.height) {
			t.Fatalf("scale-down enlarges %v to %v", image, l.scaled)
		}
		if l.crop.left < 0 || l.crop.top < 0 || l.crop.left+l.crop.width > l.scaled.width || l.crop.top+l.crop.height > l.scaled.height {
			t.Fatalf("the crop %v is outside the image %v", l.crop, l.scaled)
		}
		if p.fit != fitFill || !both {
			// Whichever side decided the scale, the other is right to within a pixel.
			byWidth := math.Abs(float64(l.scaled.height) - float64(l.scaled.width)*float64(image.height)/float64(image.width))
			byHeight := math.Abs(float64(l.scaled.width) - float64(l.scaled.height)*float64(image.width)/float64(image.height))
			if min(byWidth, byHeight) > 1 {
				t.Fatalf("%v has not the shape of %v", l.scaled, image)
			}
		}
	})
}

func wantKindRapid(t *rapid.T, err error) {
	if problem.Of(err).Kind != problem.BadParameter {
		t.Fatalf("got %v, want a bad-parameter problem", err)
	}
}

func TestBimgIsTrustedOnlyToReduce(t *testing.T) {
	for _, test := range []struct {
		image, wanted, decoded size
		reduces                bool
	}{
		{size{2560, 1600}, size{300, 188}, size{320, 200}, true},
		{size{2560, 1600}, size{320, 200}, size{320, 200}, true},  // libjpeg does all of it
		{size{2401, 1501}, size{300, 188}, size{300, 187}, false}, // libjpeg rounds 187.6 down
		{size{2560, 1600}, size{100, 63}, size{320, 200}, true},   // a box shrink by 3, then Lanczos
		{size{2560, 1600}, size{2560, 1600}, size{2560, 1600}, true},
		{size{2560, 1600}, size{2561, 1601}, size{2560, 1600}, false},
		{size{2560, 1600}, size{300, 1000}, size{320, 200}, false}, // stretched
		{size{1000, 1}, size{300, 1}, size{500, 0}, false},
	} {
		decoded, reduces := bimgEndsAt(test.image, test.wanted)
		if decoded != test.decoded || reduces != test.reduces {
			t.Errorf("%v to %v: got %v, %v; want %v, %v", test.image, test.wanted, decoded, reduces, test.decoded, test.reduces)
		}
	}
}
