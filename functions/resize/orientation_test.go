package resize

import (
	"fmt"
	"image"
	"testing"

	"github.com/h2non/bimg"
)

// turnedBy moves every pixel as t says, in Go.
func turnedBy(t turn, picture *image.NRGBA) *image.NRGBA {
	s := size{picture.Rect.Dx(), picture.Rect.Dy()}
	result := image.NewNRGBA(image.Rect(0, 0, t.size(s).width, t.size(s).height))
	for y := range s.height {
		for x := range s.width {
			toX, toY := moved(t, x, y, s)
			result.SetNRGBA(toX, toY, picture.NRGBAAt(x, y))
		}
	}
	return result
}

func TestEveryOrientationComesOutUpright(t *testing.T) {
	plain := see(t, call(t, smallJPEG(), "width=160&quality=95").Body)
	for orientation := 1; orientation <= 8; orientation++ {
		upright := turnedBy(exifTurn(orientation), plain)
		side := "width"
		if exifTurn(orientation).quarters%2 == 1 {
			side = "height" // the stored width
		}
		got := see(t, call(t, withOrientation(smallJPEG(), orientation), side+"=160&quality=95").Body)
		// A turned JPEG has its chroma subsampled along the other pixels.
		if d := difference(got, upright); d > 2.5 {
			t.Errorf("orientation %d: off by %.2f on average", orientation, d)
		}
		for other := 1; other <= 8; other++ {
			if d := difference(got, turnedBy(exifTurn(other), plain)); other != orientation && d < 10 {
				t.Errorf("orientation %d also looks like %d (difference %.2f): the test image is too plain", orientation, other, d)
			}
		}
	}
}

// A turn by the caller that undoes the orientation takes the plain route; the
// pixels must come out as they are stored.
func TestTurnsComposeWithTheOrientation(t *testing.T) {
	stored := see(t, call(t, smallJPEG(), "width=160").Body)
	for orientation, undo := range map[int]string{2: "flip=h", 3: "rotate=180", 4: "flip=v", 6: "rotate=270", 8: "rotate=90", 5: "rotate=270&flip=v", 7: "rotate=90&flip=v"} {
		got := see(t, call(t, withOrientation(smallJPEG(), orientation), "width=160&"+undo).Body)
		if d := difference(got, stored); d > 0 {
			t.Errorf("orientation %d with %s: off by %.2f", orientation, undo, d)
		}
	}
}

func TestOrientationOfOtherFormats(t *testing.T) {
	turned := withOrientation(smallJPEG(), 6)
	for _, kind := range []bimg.ImageType{bimg.WEBP, bimg.PNG} {
		file, err := bimg.Resize(turned, bimg.Options{Type: kind, NoAutoRotate: true, Quality: 95})
		if err != nil {
			t.Fatal(err)
		}
		if got := see(t, call(t, file, "height=160&format=png").Body).Rect.Size(); got != image.Pt(100, 160) {
			t.Errorf("%s with orientation 6: got %v, want 100 x 160", bimg.ImageTypeName(kind), got)
		}
	}
}

// Both routes do the same photograph alike.
func TestRoutesAgree(t *testing.T) {
	for _, width := range []int{100, 250, 320, 640} {
		query := fmt.Sprintf("width=%d&format=png", width)
		plain := see(t, call(t, largeJPEG(), query).Body)
		developed := see(t, call(t, largeJPEG(), query+"&rotate=180").Body)
		d := difference(plain, turnedBy(turn{quarters: 2}, developed))
		t.Logf("width %d: the routes differ by %.3f", width, d)
		if !(d < 1) {
			t.Errorf("width %d: the routes differ by %.2f on average", width, d)
		}
	}
}
