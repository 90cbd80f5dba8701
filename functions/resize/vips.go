package resize

/*
#cgo pkg-config: vips
#include <glib.h>
#include "develop.h"
*/
import "C"

import (
	"os"
	"strings"
	"unsafe"

	"github.com/h2non/bimg"

	"lightcone/internal/problem"
)

func init() {
	// libvips spills large images to temporary files; a function has none.
	if err := os.Setenv("VIPS_DISC_THRESHOLD", "1000g"); err != nil {
		panic(err)
	}
	// No two calls share an input, so a cache of operations only holds memory.
	bimg.VipsCacheSetMax(0)
	bimg.VipsCacheSetMaxMem(0)
	C.prepare_vips()
}

// loaders has develop.h's name for each format.
var loaders = map[format]C.int{
	jpegFormat: C.LOADER_JPEG,
	pngFormat:  C.LOADER_PNG,
	webpFormat: C.LOADER_WEBP,
	gifFormat:  C.LOADER_GIF,
	avifFormat: C.LOADER_HEIF,
	heicFormat: C.LOADER_HEIF,
}

// spaces has our name for each of develop.h's.
var spaces = map[C.int]colourSpace{
	C.SPACE_RGB:   spaceRGB,
	C.SPACE_GREY:  spaceGrey,
	C.SPACE_CMYK:  spaceCMYK,
	C.SPACE_OTHER: spaceOther,
}

// readHeader reads what a file says of its image, without decoding pixels.
func readHeader(input []byte, f format) (header, error) {
	var read C.ImageHeader
	var message *C.char
	if C.read_header(unsafe.Pointer(&input[0]), C.size_t(len(input)), loaders[f], &read, &message) != 0 {
		return header{}, corrupt(f, takeText(message))
	}
	defer C.g_free(C.gpointer(read.profile))
	return header{
		format:      f,
		stored:      size{int(read.width), int(read.height)},
		orientation: int(read.orientation),
		space:       spaces[read.space],
		deep:        read.deep != 0,
		alpha:       read.alpha != 0,
		profile:     kindOfProfile(unsafe.Slice((*byte)(read.profile), read.profile_size)),
	}, nil
}

// intermediate is an image ready to be encoded: an uncompressed PNG in C's memory.
type intermediate struct {
	data unsafe.Pointer
	size C.size_t
	grey bool
}

func (i intermediate) bytes() []byte { return unsafe.Slice((*byte)(i.data), i.size) }
func (i intermediate) free()         { C.g_free(C.gpointer(i.data)) }

// develop decodes input and does all of the plan but effects and encoding. The
// caller frees what it returns.
func develop(input []byte, f format, made plan) (intermediate, error) {
	source := made.source()
	back := made.turn.inverse()
	crop := back.area(made.layout.crop, made.layout.scaled)
	var developed C.Developed
	var message *C.char
	job := C.DevelopJob{
		loader:        loaders[f],
		jpeg_shrink:   C.int(made.jpegShrink),
		webp_scale:    C.double(made.webpScale),
		width:         C.int(source.width),
		height:        C.int(source.height),
		crop_left:     C.int(crop.left),
		crop_top:      C.int(crop.top),
		crop_width:    C.int(crop.width),
		crop_height:   C.int(crop.height),
		crop_smart:    flag(made.smart),
		crop_enlarged: flag(made.enlarges),
		mirror:        flag(made.turn.mirror),
		quarters:      C.int(made.turn.quarters),
		use_profile:   flag(made.useProfile),
		keep_metadata: flag(made.keepMetadata),
		flatten:       flag(made.flatten),
		background:    [3]C.double{C.double(made.ink.red), C.double(made.ink.green), C.double(made.ink.blue)},
		canvas_width:  C.int(made.layout.canvas.width),
		canvas_height: C.int(made.layout.canvas.height),
		pad_clear:     flag(made.padClear),
	}
	if C.develop(unsafe.Pointer(&input[0]), C.size_t(len(input)), &job, &developed, &message) != 0 {
		return intermediate{}, corrupt(f, takeText(message))
	}
	return intermediate{data: developed.data, size: developed.size, grey: developed.grey != 0}, nil
}

func flag(on bool) C.int {
	if on {
		return 1
	}
	return 0
}

func takeText(message *C.char) string {
	defer C.g_free(C.gpointer(message))
	return C.GoString(message)
}

// decodeWarnings counts the JPEG decodes that ended in a warning, since the start.
func decodeWarnings() int { return int(C.decode_warnings()) }

// corrupt blames the input, with the first thing that libvips said of it.
func corrupt(f format, said string) error {
	first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	first = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, first)
	if first == "" {
		first = "no reason given"
	}
	const longest = 160
	return problem.New(problem.CorruptInput, "The body starts like %s but is damaged or cut short (%s); send the whole, intact file.", f.article(), first[:min(len(first), longest)])
}
