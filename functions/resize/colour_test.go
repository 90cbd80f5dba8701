package resize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"math"
	"testing"

	"github.com/h2non/bimg"
)

// The primaries of two wide colour spaces, adapted to D50 (Bradford), and those
// of sRGB, as their specifications' profiles hold them.
var (
	displayP3 = [3][3]float64{{0.5151, 0.2412, -0.0011}, {0.2919, 0.6922, 0.0419}, {0.1572, 0.0666, 0.7841}}
	adobeRGB  = [3][3]float64{{0.6097, 0.3111, 0.0195}, {0.2053, 0.6257, 0.0609}, {0.1492, 0.0632, 0.7446}}
	sRGB      = [3][3]float64{{0.4361, 0.2225, 0.0139}, {0.3851, 0.7169, 0.0971}, {0.1431, 0.0606, 0.7141}}
)

// toSRGB converts one colour of a matrix profile to sRGB by the book: linear
// light, XYZ, sRGB's inverse matrix (Cramer's rule), IEC 61966-2-1's curve.
func toSRGB(c color.NRGBA, columns [3][3]float64, gamma float64) color.NRGBA {
	var xyz [3]float64
	for i, v := range []uint8{c.R, c.G, c.B} {
		for j := range 3 {
			xyz[j] += columns[i][j] * math.Pow(float64(v)/255, gamma)
		}
	}
	det := func(a, b, c [3]float64) float64 {
		return a[0]*(b[1]*c[2]-b[2]*c[1]) - b[0]*(a[1]*c[2]-a[2]*c[1]) + c[0]*(a[1]*b[2]-a[2]*b[1])
	}
	whole := det(sRGB[0], sRGB[1], sRGB[2])
	encode := func(v float64) uint8 {
		v = math.Max(0, math.Min(1, v/whole))
		if v <= 0.0031308 {
			return clamp(255 * 12.92 * v)
		}
		return clamp(255 * (1.055*math.Pow(v, 1/2.4) - 0.055))
	}
	return color.NRGBA{encode(det(xyz, sRGB[1], sRGB[2])), encode(det(sRGB[0], xyz, sRGB[2])), encode(det(sRGB[0], sRGB[1], xyz)), c.A}
}

func flat(c color.Color, width, height int) *image.NRGBA {
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			picture.Set(x, y, c)
		}
	}
	return picture
}

// near checks the middle pixel.
func near(t *testing.T, what string, file []byte, want color.NRGBA, tolerance int) {
	t.Helper()
	picture := see(t, file)
	got := picture.NRGBAAt(picture.Rect.Dx()/2, picture.Rect.Dy()/2)
	for _, d := range []int{int(got.R) - int(want.R), int(got.G) - int(want.G), int(got.B) - int(want.B), int(got.A) - int(want.A)} {
		if max(d, -d) > tolerance {
			t.Errorf("%s: got %v, want %v", what, got, want)
			return
		}
	}
}

func TestWideColoursBecomeSRGB(t *testing.T) {
	for _, space := range []struct {
		name    string
		columns [3][3]float64
	}{{"Display P3", displayP3}, {"Adobe RGB (1998)", adobeRGB}} {
		profile := matrixProfile(space.name, space.columns, 2.19921875)
		for _, c := range []color.NRGBA{{200, 60, 50, 255}, {70, 170, 80, 255}, {60, 80, 200, 255}, {128, 128, 128, 255}} {
			want := toSRGB(c, space.columns, 2.19921875)
			file := withProfile(jpegOf(flat(c, 64, 64), 100), profile)
			for _, query := range []string{"width=32&quality=100", "width=32&format=png", "width=32&rotate=90&format=webp&quality=100", "width=32&height=32&fit=pad&format=png"} {
				reply := call(t, file, query)
				near(t, fmt.Sprintf("%s %v, %s", space.name, c, query), reply.Body, want, 4)
				if bytes.Contains(reply.Body, []byte(space.name)) {
					t.Errorf("%s: the profile is still there", query)
				}
			}
		}
		saturated := color.NRGBA{200, 60, 50, 255}
		if toSRGB(saturated, space.columns, 2.2) == saturated {
			t.Errorf("%s: the test's colours are the same in sRGB, so it proves nothing", space.name)
		}
	}
}

func TestAnSRGBProfileChangesNothing(t *testing.T) {
	file := withProfile(smallJPEG(), matrixProfile("sRGB IEC61966-2.1", sRGB, 2.2))
	if !bytes.Equal(call(t, file, "width=160").Body, call(t, smallJPEG(), "width=160").Body) {
		t.Error("an sRGB profile changes the output")
	}
}

func TestABrokenProfileIsNoProfile(t *testing.T) {
	broken := matrixProfile("Display P3", displayP3, 2.2)
	for i := 132; i < 200; i++ {
		broken[i] ^= 0x5a
	}
	file := withProfile(jpegOf(flat(color.NRGBA{200, 60, 50, 255}, 64, 64), 100), broken)
	near(t, "a broken profile", call(t, file, "width=32&format=png").Body, color.NRGBA{200, 60, 50, 255}, 3)
}

// cmykJPEG builds what Go cannot write: four components, each a scan of its own
// (ISO 10918-1 allows that), with Adobe's inverted inks.
func cmykJPEG(c, m, y, k uint8, side int) []byte {
	var head, scans []byte
	for i, ink := range []uint8{c, m, y, k} {
		grey := image.NewGray(image.Rect(0, 0, side, side))
		for p := range grey.Pix {
			grey.Pix[p] = 255 - ink
		}
		file := jpegOf(grey, 100)
		for at := 2; ; {
			marker, length := file[at+1], int(binary.BigEndian.Uint16(file[at+2:]))+2
			switch {
			case marker == 0xda: // SOS: one component, number i+1, tables 0
				scans = append(scans, 0xff, 0xda, 0, 8, 1, byte(i+1), 0, 0, 63, 0)
				scans = append(scans, file[at+length:len(file)-2]...)
			case i == 0 && marker == 0xc0:
				head = append(head, 0xff, 0xc0, 0, 20, 8, 0, byte(side), 0, byte(side), 4)
				for component := byte(1); component <= 4; component++ {
					head = append(head, component, 0x11, 0)
				}
			case i == 0:
				head = append(head, file[at:at+length]...)
			}
			if marker == 0xda {
				break
			}
			at += length
		}
	}
	adobe := []byte{0xff, 0xee, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, 0}
	return bytes.Join([][]byte{{0xff, 0xd8}, adobe, head, scans, {0xff, 0xd9}}, nil)
}

func TestCMYK(t *testing.T) {
	for _, test := range []struct {
		name       string
		c, m, y, k uint8
		like       func(p color.NRGBA) bool
	}{
		{"paper", 0, 0, 0, 0, func(p color.NRGBA) bool { return p.R > 245 && p.G > 245 && p.B > 245 }},
		{"black", 0, 0, 0, 255, func(p color.NRGBA) bool { return p.R < 60 && p.G < 60 && p.B < 60 }},
		{"cyan", 255, 0, 0, 0, func(p color.NRGBA) bool { return p.R < 60 && p.G > 120 && p.B > 180 }},
		{"magenta", 0, 255, 0, 0, func(p color.NRGBA) bool { return p.R > 180 && p.G < 60 && p.B > 90 }},
		{"yellow", 0, 0, 255, 0, func(p color.NRGBA) bool { return p.R > 220 && p.G > 200 && p.B < 80 }},
	} {
		for _, query := range []string{"width=32", "width=32&format=png&strip=false", "width=200&fit=contain&format=webp"} {
			got := see(t, call(t, cmykJPEG(test.c, test.m, test.y, test.k, 64), query).Body)
			if p := got.NRGBAAt(16, 16); !test.like(p) || p.A != 255 {
				t.Errorf("%s, %s: got %v", test.name, query, p)
			}
		}
	}
}

func TestDeepPalettedAndGreyPNG(t *testing.T) {
	deep := image.NewNRGBA64(image.Rect(0, 0, 64, 64))
	deepGrey := image.NewGray16(deep.Rect)
	grey := image.NewGray(deep.Rect)
	paletted := image.NewPaletted(deep.Rect, color.Palette{color.NRGBA{10, 200, 30, 255}, color.NRGBA{0, 0, 0, 0}})
	for y := range 64 {
		for x := range 64 {
			deep.Set(x, y, color.NRGBA64{0xc8c8, 0x3c3c, 0x3232, 0xffff})
			deepGrey.Set(x, y, color.Gray16{0x5a5a})
			grey.Set(x, y, color.Gray{0x5a})
		}
	}
	for _, test := range []struct {
		name string
		file []byte
		want color.NRGBA
	}{
		{"16 bits", pngOf(deep), color.NRGBA{200, 60, 50, 255}},
		{"16 bits grey", pngOf(deepGrey), color.NRGBA{90, 90, 90, 255}},
		{"grey", pngOf(grey), color.NRGBA{90, 90, 90, 255}},
		{"palette", pngOf(paletted), color.NRGBA{10, 200, 30, 255}},
	} {
		for _, query := range []string{"", "width=32", "width=32&format=webp&quality=100", "width=32&format=jpeg&quality=100", "width=32&format=avif&quality=100", "width=99&height=200&fit=pad&background=00f", "width=32&strip=false"} {
			near(t, test.name+", "+query, call(t, test.file, query).Body, test.want, 5)
		}
	}
}

func TestGreyStaysGrey(t *testing.T) {
	picture := image.NewGray(image.Rect(0, 0, 200, 200))
	for i := range picture.Pix {
		picture.Pix[i] = clamp(128 + 100*lattice(i%200, i/200, 20))
	}
	for _, query := range []string{"width=100", "width=100&rotate=90"} {
		reply := call(t, jpegOf(picture, 95), query)
		h, err := readHeader(reply.Body, jpegFormat)
		if err != nil || h.space != spaceGrey {
			t.Errorf("%q: the output has colour (%+v, error %v)", query, h, err)
		}
	}
}

// A green disc on see-through black must have green edges: a dark rim is the
// mark of scaling colour and alpha apart.
func TestAlphaHasNoHalo(t *testing.T) {
	disc := image.NewNRGBA(image.Rect(0, 0, 400, 400))
	for y := range 400 {
		for x := range 400 {
			if math.Hypot(float64(x)-199.5, float64(y)-199.5) < 150 {
				disc.SetNRGBA(x, y, color.NRGBA{20, 220, 40, 255})
			}
		}
	}
	lossless := encoded(t, disc, bimg.WEBP, 100)
	for _, test := range []struct {
		name, query string
		file        []byte
		tolerance   int
	}{
		{"PNG", "width=90", pngOf(disc), 4},
		{"PNG enlarged", "width=900&fit=contain", pngOf(disc), 4},
		{"PNG turned", "width=90&rotate=90", pngOf(disc), 4},
		{"WebP to PNG", "width=90&format=png", lossless, 24},
	} {
		got := see(t, call(t, test.file, test.query).Body)
		edges := 0
		for i := 0; i < len(got.Pix); i += 4 {
			p := color.NRGBA{got.Pix[i], got.Pix[i+1], got.Pix[i+2], got.Pix[i+3]}
			if p.A < 32 || p.A > 224 {
				continue
			}
			edges++
			if d := max(int(p.R)-20, 20-int(p.R), 220-int(p.G), int(p.G)-220, int(p.B)-40, 40-int(p.B)); d > test.tolerance {
				t.Errorf("%s: an edge pixel is %v", test.name, p)
				break
			}
		}
		if edges < 50 {
			t.Errorf("%s: only %d see-through edge pixels", test.name, edges)
		}
		if corner := got.NRGBAAt(0, 0); corner.A != 0 {
			t.Errorf("%s: the corner is %v", test.name, corner)
		}
		if middle := got.NRGBAAt(got.Rect.Dx()/2, got.Rect.Dy()/2); middle.A != 255 {
			t.Errorf("%s: the middle is %v", test.name, middle)
		}
	}
}

func TestBackgrounds(t *testing.T) {
	half := pngOf(flat(color.NRGBA{255, 0, 0, 128}, 64, 64))
	solid := pngOf(flat(color.NRGBA{255, 0, 0, 255}, 64, 64))
	corner := func(file []byte, query string) color.NRGBA {
		return see(t, call(t, file, query).Body).NRGBAAt(1, 1)
	}
	near(t, "red glass on white", call(t, half, "format=jpeg&quality=100").Body, color.NRGBA{255, 127, 127, 255}, 4)
	near(t, "red glass on blue", call(t, half, "background=00f").Body, color.NRGBA{128, 0, 127, 255}, 4)
	near(t, "red glass stays", call(t, half, "background=transparent").Body, color.NRGBA{255, 0, 0, 128}, 1)
	for _, test := range []struct {
		what, query string
		file        []byte
		want        color.NRGBA
	}{
		{"clear padding", "width=64&height=128&fit=pad", solid, color.NRGBA{255, 255, 255, 0}},
		{"clear padding of glass", "width=64&height=128&fit=pad", half, color.NRGBA{255, 255, 255, 0}},
		{"blue padding", "width=64&height=128&fit=pad&background=00f", solid, color.NRGBA{0, 0, 255, 255}},
		{"white padding in JPEG", "width=64&height=128&fit=pad&format=jpeg&quality=100", solid, color.NRGBA{255, 255, 255, 255}},
	} {
		if got := corner(test.file, test.query); got != test.want {
			t.Errorf("%s: the corner is %v, want %v", test.what, got, test.want)
		}
	}
}

func TestEveryFormatInAndOut(t *testing.T) {
	picture := photo(320, 200)
	var animation bytes.Buffer
	frame := image.NewPaletted(picture.Rect, color.Palette{color.NRGBA{200, 60, 50, 255}, color.Black})
	second := image.NewPaletted(picture.Rect, color.Palette{color.Black, color.White})
	if err := gif.EncodeAll(&animation, &gif.GIF{Image: []*image.Paletted{frame, second}, Delay: []int{1, 1}}); err != nil {
		t.Fatal(err)
	}
	for _, input := range []struct {
		name, to string
		file     []byte
		still    *image.NRGBA
	}{
		{"JPEG", "jpeg", jpegOf(picture, 95), picture},
		{"PNG", "png", pngOf(picture), picture},
		{"WebP", "webp", encoded(t, picture, bimg.WEBP, 95), picture},
		{"AVIF", "avif", encoded(t, picture, bimg.AVIF, 80), picture},
		{"HEIC", "jpeg", encoded(t, picture, bimg.HEIF, 90), picture},
		{"GIF", "png", animation.Bytes(), flat(color.NRGBA{200, 60, 50, 255}, 320, 200)},
	} {
		if got := call(t, input.file, "width=80").ContentType; got != "image/"+input.to {
			t.Errorf("%s comes back as %s", input.name, got)
		}
		want := see(t, call(t, pngOf(input.still), "width=80").Body)
		for _, to := range []string{"jpeg", "png", "webp", "avif"} {
			reply := call(t, input.file, "width=80&quality=90&format="+to)
			if f, err := sniff(reply.Body); err != nil || string(f) != to || reply.ContentType != "image/"+to {
				t.Errorf("%s to %s: got a %s body as %s", input.name, to, f, reply.ContentType)
			}
			if d := difference(see(t, reply.Body), want); d > 6 {
				t.Errorf("%s to %s: off by %.2f on average", input.name, to, d)
			}
		}
	}
}
