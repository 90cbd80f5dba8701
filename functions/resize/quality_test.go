package resize

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"

	"github.com/h2non/bimg"
	"golang.org/x/image/draw"
)

// luma is BT.601's.
func luma(picture *image.NRGBA, x, y int) float64 {
	c := picture.NRGBAAt(x, y)
	return 0.299*float64(c.R) + 0.587*float64(c.G) + 0.114*float64(c.B)
}

// similarity is the mean structural similarity of two pictures' luma (Wang,
// Bovik, Sheikh and Simoncelli, 2004), over windows of 8 x 8 px, four apart.
func similarity(t testing.TB, a, b *image.NRGBA) float64 {
	t.Helper()
	if a.Rect != b.Rect {
		t.Fatalf("sizes differ: %v and %v", a.Rect, b.Rect)
	}
	const window, step = 8, 4
	const c1, c2 = (0.01 * 255) * (0.01 * 255), (0.03 * 255) * (0.03 * 255)
	sum, windows := 0.0, 0
	for top := 0; top+window <= a.Rect.Dy(); top += step {
		for left := 0; left+window <= a.Rect.Dx(); left += step {
			var sa, sb, saa, sbb, sab float64
			for y := top; y < top+window; y++ {
				for x := left; x < left+window; x++ {
					p, q := luma(a, x, y), luma(b, x, y)
					sa, sb, saa, sbb, sab = sa+p, sb+q, saa+p*p, sbb+q*q, sab+p*q
				}
			}
			const n = window * window
			ma, mb := sa/n, sb/n
			va, vb, cov := saa/n-ma*ma, sbb/n-mb*mb, sab/n-ma*mb
			sum += (2*ma*mb + c1) * (2*cov + c2) / ((ma*ma + mb*mb + c1) * (va + vb + c2))
			windows++
		}
	}
	return sum / float64(windows)
}

// Shrinking on load as far as libjpeg can (bilinear in bimg's terms) must look
// as good as bimg's default, which shrinks less on load and costs half as much
// again. The judge is a full decode and Catmull-Rom in Go.
func TestShrinkOnLoadCostsNoQuality(t *testing.T) {
	source, err := jpeg.Decode(bytes.NewReader(largeJPEG()))
	if err != nil {
		t.Fatal(err)
	}
	for _, width := range []int{100, 240, 300, 400, 900} {
		height := (width*1250 + 1000) / 2000
		best := image.NewNRGBA(image.Rect(0, 0, width, height))
		draw.CatmullRom.Scale(best, best.Rect, source, source.Bounds(), draw.Src, nil)

		p := Params{width: width, fit: fitScaleDown, gravity: gravityCenter, dpr: 1, format: pngFormat}
		reply, err := Resize(t.Context(), largeJPEG(), p, "")
		if err != nil {
			t.Fatal(err)
		}
		bicubic, err := bimg.Resize(largeJPEG(), bimg.Options{Width: width, Height: height, Force: true, Type: bimg.PNG})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := similarity(t, see(t, reply.Body), best), similarity(t, see(t, bicubic), best)
		t.Logf("width %d: SSIM %.4f, bimg's default %.4f", width, ours, theirs)
		if ours < theirs-0.005 {
			t.Errorf("width %d: SSIM %.4f is worse than the %.4f of bimg's default", width, ours, theirs)
		}
		if ours < 0.95 {
			t.Errorf("width %d: SSIM %.4f against a full decode", width, ours)
		}
	}
}
