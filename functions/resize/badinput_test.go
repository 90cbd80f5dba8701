package resize

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/gif"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/h2non/bimg"

	"lightcone/internal/problem"
)

// pngChunk is one chunk of a PNG (RFC 2083, 3.2), with its checksum.
func pngChunk(name string, data []byte) []byte {
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	chunk = append(append(chunk, name...), data...)
	return binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
}

// pngHeader is a PNG that ends behind its header.
func pngHeader(width, height uint32, depth, colourType byte) []byte {
	ihdr := binary.BigEndian.AppendUint32(nil, width)
	ihdr = binary.BigEndian.AppendUint32(ihdr, height)
	ihdr = append(ihdr, depth, colourType, 0, 0, 0)
	return append([]byte("\x89PNG\r\n\x1a\n"), pngChunk("IHDR", ihdr)...)
}

// bomb is a 1-bit PNG of nothing but black: a thousandth of its pixels' size. Of
// a very large one, only the first rows are there.
func bomb(width, height int) []byte {
	var squeezed bytes.Buffer
	z := zlib.NewWriter(&squeezed)
	row := make([]byte, 1+(width+7)/8)
	for range min(height, 8000) {
		if _, err := z.Write(row); err != nil {
			panic(err)
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return bytes.Join([][]byte{pngHeader(uint32(width), uint32(height), 1, 0), pngChunk("IDAT", squeezed.Bytes()), pngChunk("IEND", nil)}, nil)
}

func TestBadInputs(t *testing.T) {
	huge := append(pngHeader(60000, 60000, 8, 2), pngChunk("IDAT", []byte{0x78, 0x9c, 0x03, 0, 0, 0, 0, 1})...)
	hugeJPEG := bytes.Clone(smallJPEG())
	sof := bytes.Index(hugeJPEG, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint32(hugeJPEG[sof+5:], 60000<<16|60000)
	random := make([]byte, 4096)
	rand.NewChaCha8([32]byte{}).Read(random)
	for _, test := range []struct {
		name  string
		input []byte
		kind  problem.Kind
		says  string
	}{
		{"zero bytes", nil, problem.UnsupportedMedia, "empty"},
		{"one byte", []byte{0xff}, problem.UnsupportedMedia, ""},
		{"random bytes", random, problem.UnsupportedMedia, ""},
		{"HTML", []byte("<!doctype html><title>404</title>"), problem.UnsupportedMedia, "HTML"},
		{"SVG", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>`), problem.UnsupportedMedia, "SVG"},
		{"a JPEG's start, then noise", append([]byte{0xff, 0xd8, 0xff, 0xe0}, random...), problem.CorruptInput, "JPEG"},
		{"a PNG's start, then noise", append([]byte("\x89PNG\r\n\x1a\n"), random...), problem.CorruptInput, "PNG"},
		{"a WebP's start, then noise", append([]byte("RIFF\x00\x10\x00\x00WEBP"), random...), problem.CorruptInput, "WebP"},
		{"a GIF's start, then noise", append([]byte("GIF89a"), random...), problem.CorruptInput, "GIF"},
		{"an AVIF's start, then noise", append([]byte("\x00\x00\x00\x14ftypavif\x00\x00\x00\x00mif1"), random...), problem.CorruptInput, "AVIF"},
		{"a HEIC's start, then noise", append([]byte("\x00\x00\x00\x14ftypheic\x00\x00\x00\x00mif1"), random...), problem.CorruptInput, "HEIC"},
		{"a 60000 x 60000 PNG header", huge, problem.TooManyPixels, "60000 x 60000"},
		{"a 60000 x 60000 JPEG header", hugeJPEG, problem.TooManyPixels, "3600.0 megapixels"},
		{"a decompression bomb", bomb(8000, 8000), problem.TooManyPixels, "64.0 megapixels"},
		{"a larger bomb", bomb(40000, 40000), problem.TooManyPixels, "1600.0 megapixels"},
		{"half a photograph", largeJPEG()[:len(largeJPEG())/2], problem.CorruptInput, "cut short"},
	} {
		for _, query := range []string{"width=100", "width=100&rotate=90", "width=100&height=20&fit=cover&gravity=north&flip=h"} {
			before := bimg.VipsMemory().MemoryHighwater
			_, err := try(test.input, query, "")
			if err == nil {
				t.Errorf("%s, %s: no error", test.name, query)
				continue
			}
			wantKind(t, err, test.kind)
			if !strings.Contains(problem.Of(err).Detail, test.says) {
				t.Errorf("%s: %q does not say %q", test.name, problem.Of(err).Detail, test.says)
			}
			if grown := bimg.VipsMemory().MemoryHighwater - before; test.kind == problem.TooManyPixels && grown > 4<<20 {
				t.Errorf("%s: libvips took %d bytes before the refusal", test.name, grown)
			}
		}
	}
}

// Every prefix of a file is refused, unless all of its pixels are there (only an
// end marker or trailing chunks are missing); then the output is the right one.
func TestPrefixes(t *testing.T) {
	picture := photo(32, 16)
	var animation bytes.Buffer
	if err := gif.Encode(&animation, picture, nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		file    []byte
		queries []string
		trailer int // bytes that hold no pixels
		step    int
	}{
		{"JPEG", jpegOf(picture, 80), []string{"width=12&format=png", "width=12&format=png&rotate=180", "width=32&height=4&fit=cover&gravity=north&rotate=180&format=png"}, 2, 1},
		{"progressive JPEG", progressiveJPEG(t, picture), []string{"width=12&format=png", "width=12&format=png&rotate=180"}, 2, 1},
		{"PNG", pngOf(picture), []string{"width=12", "width=32&height=4&fit=cover&gravity=north"}, 12 + 4 + 4, 1},
		{"WebP", encoded(t, picture, bimg.WEBP, 80), []string{"width=12&format=png"}, 1, 1},
		{"GIF", animation.Bytes(), []string{"width=12"}, 2, 1},
		{"AVIF", encoded(t, picture, bimg.AVIF, 50), []string{"width=12&format=png"}, 0, 7},
		{"HEIC", encoded(t, picture, bimg.HEIF, 50), []string{"width=12&format=png"}, 0, 7},
	} {
		for _, query := range test.queries {
			whole := see(t, call(t, test.file, query).Body)
			for n := 0; n < len(test.file); n += test.step {
				reply, err := try(test.file[:n], query, "")
				if err != nil {
					if kind := problem.Of(err).Kind; kind != problem.CorruptInput && kind != problem.UnsupportedMedia {
						t.Fatalf("%s, %d of %d bytes: %v", test.name, n, len(test.file), err)
					}
					continue
				}
				if n < len(test.file)-test.trailer {
					t.Errorf("%s, %s: %d of %d bytes pass as a whole image", test.name, query, n, len(test.file))
				} else if d := difference(see(t, reply.Body), whole); d > 0 {
					t.Errorf("%s, %s: %d of %d bytes give another image (%.2f)", test.name, query, n, len(test.file), d)
				}
			}
		}
	}
}

func progressiveJPEG(t *testing.T, picture image.Image) []byte {
	file, err := bimg.Resize(pngOf(picture), bimg.Options{Type: bimg.JPEG, Interlace: true, Quality: 80})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// FuzzResize feeds damaged files through every route. Whatever they are, the
// answer is an image or a problem that is the caller's.
func FuzzResize(f *testing.F) {
	picture := photo(40, 24)
	queries := []string{"width=9", "width=9&rotate=90", "width=30&height=30&fit=pad&strip=false", "width=10&height=10&fit=cover&gravity=smart", "width=50&fit=contain&format=jpeg&blur=1"}
	files := [][]byte{jpegOf(picture, 70), pngOf(picture), encoded(f, picture, bimg.WEBP, 70), encoded(f, picture, bimg.AVIF, 50), encoded(f, picture, bimg.HEIF, 50),
		withOrientation(withProfile(jpegOf(picture, 70), matrixProfile("Display P3", displayP3, 2.2)), 7), cmykJPEG(9, 99, 199, 50, 24)}
	random := rand.New(rand.NewPCG(1, 2))
	for _, file := range files {
		for i := range uint8(4) {
			damaged := bytes.Clone(file)
			for range i { // the first is whole
				damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
			}
			f.Add(damaged, i)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, choice uint8) {
		reply, err := try(input, queries[int(choice)%len(queries)]+"&dpr=1", "")
		if err == nil {
			if _, err := bimg.Resize(reply.Body, bimg.Options{Type: bimg.PNG}); err != nil {
				t.Fatalf("the output cannot be decoded: %v", err)
			}
			return
		}
		var found *problem.Error
		if !errors.As(err, &found) {
			t.Fatalf("the function blames itself: %v", err)
		}
		switch found.Kind {
		case problem.CorruptInput, problem.UnsupportedMedia, problem.TooManyPixels, problem.BadParameter:
		default:
			t.Fatalf("an unexpected kind of problem: %v", err)
		}
	})
}

// A bit flipped in each of many places of a photograph: whatever still passes as
// an image comes out whole, in the right size.
func TestFlippedBits(t *testing.T) {
	file := jpegOf(photo(200, 120), 85)
	random := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 300 {
		damaged := bytes.Clone(file)
		damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
		for _, query := range []string{"width=50", "width=50&flip=h"} {
			reply, err := try(damaged, query, "")
			if err != nil {
				if kind := problem.Of(err).Kind; kind != problem.CorruptInput && kind != problem.UnsupportedMedia && kind != problem.TooManyPixels && kind != problem.BadParameter {
					t.Fatal(err)
				}
				refused++
				continue
			}
			see(t, reply.Body)
		}
	}
	if refused < 20 {
		t.Errorf("only %d of 600 damaged files were refused", refused)
	}
}

// After thousands of calls, good and bad, nothing has grown.
func TestNothingLeaks(t *testing.T) {
	picture := photo(96, 64)
	jpegFile, pngFile := jpegOf(picture, 85), pngOf(picture)
	round := func(n int) {
		for i := range n {
			switch i % 8 {
			case 0:
				_, _ = try(jpegFile[:len(jpegFile)/2], "width=24", "") // fails in the plain route
			case 1:
				_, _ = try(pngFile[:len(pngFile)/2], "width=24", "") // fails in develop
			case 2:
				call(t, pngFile, "width=120&height=120&fit=pad&format=jpeg&background=0f0")
			case 3:
				call(t, withOrientation(jpegFile, 1+i/8%8), "width=24&height=24&fit=cover&gravity=smart")
			default:
				call(t, jpegFile, fmt.Sprintf("width=%d", 20+i%40))
			}
		}
	}
	round(160)
	emptyHands(t)
	resident := residentBytes(t)
	round(2000)
	runtime.GC()
	emptyHands(t)
	if grown := residentBytes(t) - resident; grown > 12<<20 {
		t.Errorf("the process has grown by %d bytes", grown)
	} else {
		t.Logf("resident memory changed by %d KiB over 2000 calls", grown>>10)
	}
}

// emptyHands waits until libvips holds nothing: its workers let go of their last buffers
// a moment after the call.
func emptyHands(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		held := bimg.VipsMemory()
		if held.Memory == 0 && held.Allocations == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvips holds %d bytes in %d allocations", held.Memory, held.Allocations)
		}
	}
}

func residentBytes(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatalf("/proc/self/statm: %v", err)
	}
	return resident * os.Getpagesize()
}
