package resize

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math"
	"sync"
	"testing"

	"github.com/h2non/bimg"
	"go.uber.org/goleak"
	"golang.org/x/image/webp"

	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// photo makes a picture with what photographs have: slopes, edges and noise of
// several sizes. The same size gives the same picture.
func photo(width, height int) *image.NRGBA {
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			u, v := float64(x)/float64(width), float64(y)/float64(height)
			noise := 40*lattice(x, y, 97) + 30*lattice(x, y, 23) + 16*lattice(x, y, 5) + 6*lattice(x, y, 1)
			edge := 0.0
			if math.Hypot(u-0.35, (v-0.4)*0.7) < 0.18 || int(u*9+v*4)%5 == 0 {
				edge = 45
			}
			picture.SetNRGBA(x, y, color.NRGBA{
				R: clamp(60 + 110*u + noise + edge),
				G: clamp(50 + 120*v + noise),
				B: clamp(150 - 80*u*v + 0.7*noise - edge),
				A: 255,
			})
		}
	}
	return picture
}

// lattice is smooth noise from -1 to 1 whose grain is cell pixels wide.
func lattice(x, y, cell int) float64 {
	at := func(i, j int) float64 {
		h := uint32(i)*374761393 + uint32(j)*668265263 + uint32(cell)*2246822519
		h = (h ^ h>>13) * 1274126177
		return float64((h^h>>16)&0xffff)/32767.5 - 1
	}
	i, j := x/cell, y/cell
	u, v := float64(x%cell)/float64(cell), float64(y%cell)/float64(cell)
	top := at(i, j)*(1-u) + at(i+1, j)*u
	bottom := at(i, j+1)*(1-u) + at(i+1, j+1)*u
	return top*(1-v) + bottom*v
}

func clamp(v float64) uint8 { return uint8(math.Max(0, math.Min(255, math.Round(v)))) }

// largePhoto and its JPEG are shared: making them takes a while.
var (
	largePhoto = sync.OnceValue(func() *image.NRGBA { return photo(2000, 1250) })
	largeJPEG  = sync.OnceValue(func() []byte { return jpegOf(largePhoto(), 92) })
	smallPhoto = sync.OnceValue(func() *image.NRGBA { return photo(640, 400) })
	smallJPEG  = sync.OnceValue(func() []byte { return jpegOf(smallPhoto(), 95) })
)

func jpegOf(picture image.Image, quality int) []byte {
	var file bytes.Buffer
	if err := jpeg.Encode(&file, picture, &jpeg.Options{Quality: quality}); err != nil {
		panic(err)
	}
	return file.Bytes()
}

func pngOf(picture image.Image) []byte {
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		panic(err)
	}
	return file.Bytes()
}

// encoded makes a file of a type that Go cannot write, with libvips's encoder.
func encoded(t testing.TB, picture image.Image, kind bimg.ImageType, quality int) []byte {
	t.Helper()
	file, err := bimg.Resize(pngOf(picture), bimg.Options{Type: kind, Quality: quality, Speed: 8})
	if err != nil {
		t.Fatalf("encode %s: %v", bimg.ImageTypeName(kind), err)
	}
	return file
}

// withSegment puts a marker segment behind a JPEG's SOI.
func withSegment(file []byte, marker byte, payload []byte) []byte {
	segment := binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(payload)+2))
	return bytes.Join([][]byte{file[:2], segment, payload, file[2:]}, nil)
}

// withOrientation gives a JPEG an EXIF block (Exif 2.32, 4.5) with tag 274 alone.
func withOrientation(file []byte, orientation int) []byte {
	exif := []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01")
	exif = append(exif, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, byte(orientation), 0, 0, 0, 0, 0, 0)
	return withSegment(file, 0xe1, exif)
}

// withProfile embeds an ICC profile in a JPEG (ICC.1:2022, annex B.4).
func withProfile(file, profile []byte) []byte {
	return withSegment(file, 0xe2, append([]byte("ICC_PROFILE\x00\x01\x01"), profile...))
}

// call resizes and fails the test if that fails.
func call(t testing.TB, input []byte, query string) functions.Reply {
	t.Helper()
	reply, err := try(input, query, "")
	if err != nil {
		t.Fatalf("resize?%s: %v", query, err)
	}
	return reply
}

func try(input []byte, query, accept string) (functions.Reply, error) {
	p, err := ParseParams(query)
	if err != nil {
		return functions.Reply{}, err
	}
	return Resize(context.Background(), input, p, accept)
}

// see decodes a file independently of libvips, AVIF and HEIC excepted.
func see(t testing.TB, file []byte) *image.NRGBA {
	t.Helper()
	f, err := sniff(file)
	if err != nil {
		t.Fatalf("not an image: %v", err)
	}
	var picture image.Image
	switch f {
	case jpegFormat:
		picture, err = jpeg.Decode(bytes.NewReader(file))
	case webpFormat:
		if picture, err = webp.Decode(bytes.NewReader(file)); err == nil {
			picture = studioRange(picture)
		}
	case pngFormat:
		picture, err = png.Decode(bytes.NewReader(file))
	default:
		if file, err = bimg.Resize(file, bimg.Options{Type: bimg.PNG}); err == nil {
			picture, err = png.Decode(bytes.NewReader(file))
		}
	}
	if err != nil {
		t.Fatalf("decode %s: %v", f, err)
	}
	return plainPixels(picture)
}

// studioRange reads a lossy WebP's luma as running from 16 to 235, as its format
// says (RFC 9649, 2.5: BT.601); x/image hands it on as if it were a JPEG's.
func studioRange(picture image.Image) image.Image {
	var planes *image.YCbCr
	alphaAt := func(int, int) uint8 { return 255 }
	switch typed := picture.(type) {
	case *image.YCbCr:
		planes = typed
	case *image.NYCbCrA:
		planes = &typed.YCbCr
		alphaAt = func(x, y int) uint8 { return typed.A[typed.AOffset(x, y)] }
	default:
		return picture // lossless
	}
	result := image.NewNRGBA(planes.Rect)
	for y := range planes.Rect.Dy() {
		for x := range planes.Rect.Dx() {
			p := planes.YCbCrAt(x, y)
			l, cb, cr := 1.164*(float64(p.Y)-16), float64(p.Cb)-128, float64(p.Cr)-128
			result.SetNRGBA(x, y, color.NRGBA{clamp(l + 1.596*cr), clamp(l - 0.392*cb - 0.813*cr), clamp(l + 2.017*cb), alphaAt(x, y)})
		}
	}
	return result
}

func plainPixels(picture image.Image) *image.NRGBA {
	if done, ok := picture.(*image.NRGBA); ok && done.Rect.Min == (image.Point{}) && done.Stride == 4*done.Rect.Dx() {
		return done
	}
	bounds := picture.Bounds()
	result := image.NewNRGBA(image.Rect(0, 0, bounds.Dx(), bounds.Dy()))
	draw.Draw(result, result.Bounds(), picture, bounds.Min, draw.Src)
	return result
}

// difference is the mean absolute difference of two pictures' channels, 0 to
// 255; infinite if the sizes differ.
func difference(a, b *image.NRGBA) float64 {
	if a.Bounds() != b.Bounds() {
		return math.Inf(1)
	}
	sum := 0
	for i := range a.Pix {
		d := int(a.Pix[i]) - int(b.Pix[i])
		sum += max(d, -d)
	}
	return float64(sum) / float64(len(a.Pix))
}

// wantKind checks that an error is a problem of the given kind, told in a sentence.
func wantKind(t testing.TB, err error, kind problem.Kind) {
	t.Helper()
	var found *problem.Error
	if !errors.As(err, &found) || found.Kind != kind {
		t.Fatalf("got error %v, want a problem of kind %s", err, kind)
	}
	if n := len(found.Detail); n < 20 || n > 400 || found.Detail[n-1] != '.' {
		t.Errorf("the detail %q is not a sentence", found.Detail)
	}
}
