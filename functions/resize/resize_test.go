package resize

import (
	"context"
	"image"
	"image/color"
	"net/http/httptest"
	"testing"
	"time"

	"lightcone/internal/problem"
)

func TestSizesOfEveryFit(t *testing.T) {
	for _, test := range []struct {
		query string
		want  image.Point
	}{
		{"", image.Pt(640, 400)},
		{"width=160", image.Pt(160, 100)},
		{"height=100", image.Pt(160, 100)},
		{"width=160&dpr=2", image.Pt(320, 200)},
		{"width=320&dpr=0.5", image.Pt(160, 100)},
		{"width=2000", image.Pt(640, 400)},
		{"width=800&fit=contain", image.Pt(800, 500)},
		{"width=100&height=100", image.Pt(100, 63)},
		{"width=100&height=100&fit=contain", image.Pt(100, 63)},
		{"width=100&height=100&fit=cover", image.Pt(100, 100)},
		{"width=700&height=700&fit=cover", image.Pt(700, 700)},
		{"width=700&height=100&fit=cover&rotate=90", image.Pt(700, 100)},
		{"width=700&height=500&fit=cover&rotate=90&gravity=smart", image.Pt(700, 500)},
		{"width=100&height=100&fit=cover&gravity=smart", image.Pt(100, 100)},
		{"width=100&height=100&fit=fill", image.Pt(100, 100)},
		{"width=700&height=50&fit=fill", image.Pt(700, 50)},
		{"width=100&height=100&fit=pad", image.Pt(100, 100)},
		{"width=700&height=700&fit=pad", image.Pt(700, 700)},
		{"width=100&rotate=90", image.Pt(100, 160)},
		{"width=100&rotate=270&flip=v", image.Pt(100, 160)},
		{"width=160&rotate=180", image.Pt(160, 100)},
		{"width=1", image.Pt(1, 1)},
		{"width=639", image.Pt(639, 399)},
		{"width=213&height=133&fit=fill", image.Pt(213, 133)},
	} {
		if got := see(t, call(t, smallJPEG(), test.query).Body).Rect.Size(); got != test.want {
			t.Errorf("%q: got %v, want %v", test.query, got, test.want)
		}
	}
}

func TestNoResizeKeepsThePixels(t *testing.T) {
	if d := difference(see(t, call(t, smallJPEG(), "format=png").Body), see(t, smallJPEG())); d > 1 {
		t.Errorf("the pixels changed by %.2f on average", d) // libjpeg and Go round differently
	}
}

func TestCropsAreThePartsTheyName(t *testing.T) {
	full := see(t, call(t, smallJPEG(), "width=160&format=png").Body)
	part := func(left, top int) *image.NRGBA {
		return plainPixels(full.SubImage(image.Rect(left, top, left+60, top+100)))
	}
	for _, test := range []struct {
		gravity string
		left    int
	}{{"west", 0}, {"north-west", 0}, {"center", 50}, {"north", 50}, {"east", 100}, {"south-east", 100}} {
		got := see(t, call(t, smallJPEG(), "width=60&height=100&fit=cover&format=png&gravity="+test.gravity).Body)
		if d := difference(got, part(test.left, 0)); d > 0 {
			t.Errorf("%s: off by %.2f from the part at %d", test.gravity, d, test.left)
		}
		// The develop route, through a turn that swaps the axes: the crop is of the turned image.
		turned := see(t, call(t, withOrientation(smallJPEG(), 6), "rotate=270&strip=false&width=60&height=100&fit=cover&format=png&gravity="+test.gravity).Body)
		if d := difference(turned, part(test.left, 0)); d > 0.1 {
			t.Errorf("%s, turned: off by %.2f from the part at %d", test.gravity, d, test.left)
		}
	}
}

// A crop of a turned image is the crop of the image once turned.
func TestCropFollowsTheTurn(t *testing.T) {
	upright := see(t, call(t, smallJPEG(), "width=160&format=png").Body)
	for _, test := range []struct {
		orientation int
		gravity     string
	}{{6, "north"}, {6, "south"}, {8, "north"}, {5, "south"}, {7, "north"}, {2, "west"}, {3, "east"}, {4, "west"}} {
		turned := exifTurn(test.orientation)
		full := turnedBy(turned, upright)
		box, query := image.Rect(0, 0, 60, 100), "width=60&height=100"
		if turned.quarters%2 == 1 {
			box, query = image.Rect(0, 0, 100, 60), "width=100&height=60"
		}
		switch test.gravity {
		case "south":
			box = box.Add(image.Pt(0, full.Rect.Dy()-box.Dy()))
		case "east":
			box = box.Add(image.Pt(full.Rect.Dx()-box.Dx(), 0))
		}
		got := see(t, call(t, withOrientation(smallJPEG(), test.orientation), query+"&fit=cover&format=png&gravity="+test.gravity).Body)
		if d := difference(got, plainPixels(full.SubImage(box))); d > 0.1 {
			t.Errorf("orientation %d, %s: off by %.2f", test.orientation, test.gravity, d)
		}
	}
}

// An interesting spot far from the middle survives a smart crop.
func TestSmartCropKeepsWhatMatters(t *testing.T) {
	picture := image.NewNRGBA(image.Rect(0, 0, 600, 200))
	for y := range 200 {
		for x := range 600 {
			picture.SetNRGBA(x, y, color.NRGBA{110, 120, 130, 255})
			if x >= 480 && x < 560 && y >= 60 && y < 140 {
				picture.SetNRGBA(x, y, color.NRGBA{clamp(200 + 50*lattice(x, y, 3)), 40, 30, 255})
			}
		}
	}
	red := func(query string) (count int) {
		got := see(t, call(t, pngOf(picture), query).Body)
		for i := 0; i < len(got.Pix); i += 4 {
			if got.Pix[i] > 150 && got.Pix[i+1] < 90 {
				count++
			}
		}
		return count
	}
	if smart, center := red("width=100&height=100&fit=cover&gravity=smart"), red("width=100&height=100&fit=cover"); smart < 1000 || center > 0 {
		t.Errorf("smart keeps %d red pixels of 1600, center %d", smart, center)
	}
}

func TestEffects(t *testing.T) {
	roughness := func(query string) (sum float64) {
		got := see(t, call(t, smallJPEG(), query).Body)
		for y := range got.Rect.Dy() {
			for x := 1; x < got.Rect.Dx(); x++ {
				d := luma(got, x, y) - luma(got, x-1, y)
				sum += d * d
			}
		}
		return sum
	}
	for _, route := range []string{"width=320&format=png", "width=320&format=png&flip=h"} {
		as := roughness(route)
		blurred, more := roughness(route+"&blur=1"), roughness(route+"&blur=6")
		sharp, sharper := roughness(route+"&sharpen=1"), roughness(route+"&sharpen=8")
		if !(more < blurred && blurred < as && as < sharp && sharp < sharper) {
			t.Errorf("%s: roughness is %.0f; blurred %.0f, then %.0f; sharpened %.0f, then %.0f", route, as, blurred, more, sharp, sharper)
		}
		if none := roughness(route + "&blur=0&sharpen=0"); none != as {
			t.Errorf("%s: no effects change roughness from %.0f to %.0f", route, as, none)
		}
	}
}

func TestQualityIsBytes(t *testing.T) {
	for _, f := range []string{"jpeg", "webp", "avif"} {
		low := call(t, smallJPEG(), "width=320&quality=20&format="+f).Body
		middle := call(t, smallJPEG(), "width=320&format="+f).Body
		high := call(t, smallJPEG(), "width=320&quality=100&format="+f).Body
		if !(len(low) < len(middle) && len(middle) < len(high)) {
			t.Errorf("%s: %d bytes at 20, %d by default, %d at 100", f, len(low), len(middle), len(high))
		}
	}
}

func TestHandler(t *testing.T) {
	request := httptest.NewRequest("POST", "/?width=64&format=auto", nil)
	request.Header.Set("Accept", "image/webp,*/*;q=0.5")
	request.Header.Set("Content-Type", "text/html") // the bytes decide
	reply, err := Handler(t.Context(), request, smallJPEG())
	if err != nil {
		t.Fatal(err)
	}
	if f, err := sniff(reply.Body); reply.ContentType != "image/webp" || reply.Vary != "Accept" || err != nil || f != webpFormat {
		t.Errorf("got %q, Vary %q, a %s body", reply.ContentType, reply.Vary, f)
	}
	if reply = call(t, smallJPEG(), "width=64"); reply.ContentType != "image/jpeg" || reply.Vary != "" {
		t.Errorf("without auto: got %q, Vary %q", reply.ContentType, reply.Vary)
	}
	if reply, err = try(smallJPEG(), "width=64&format=auto", "*/*"); err != nil || reply.ContentType != "image/jpeg" || reply.Vary != "Accept" {
		t.Errorf("auto that keeps the type: got %q, Vary %q (error %v)", reply.ContentType, reply.Vary, err)
	}
	_, err = Handler(t.Context(), httptest.NewRequest("POST", "/?width=-1", nil), smallJPEG())
	wantKind(t, err, problem.BadParameter)
}

func TestALateCallIsNotDecoded(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	p, err := ParseParams("width=100")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Resize(ctx, smallJPEG(), p, "")
	wantKind(t, err, problem.DeadlineExceeded)
}

func TestWarm(t *testing.T) {
	if err := Warm(); err != nil {
		t.Fatal(err)
	}
}
