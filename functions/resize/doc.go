// Package resize is Lightcone's first function: an image in, the same image in
// another size, shape or format out.
//
// # Parameters
//
// All are optional; each may be given once. Anything else is
// problem.BadParameter.
//
//	width, height  1 to 8192 px. One alone keeps the shape; none keeps the size.
//	fit            scale-down (default: fit inside the box, never enlarge), contain (fit inside),
//	               cover (fill the box and crop the rest), fill (stretch), pad (contain, then
//	               fill up the box with background). With one side given, cover, fill and pad are contain.
//	gravity        what cover keeps: center (default), north, north-east, ... north-west, smart
//	format         jpeg, png, webp, avif, or auto: what the Accept header likes best, with
//	               Vary: Accept. Default: the input's; a GIF becomes PNG, a HEIC JPEG.
//	quality        1 to 100; default 80 (JPEG, WebP) or 50 (AVIF). PNG is lossless and takes none.
//	dpr            0.1 to 8, multiplies width and height
//	rotate         0, 90, 180 or 270 degrees clockwise
//	flip           horizontal (h, true), vertical (v), both (hv), none (false)
//	blur           0 to 100: standard deviation of a Gaussian, px of the output
//	sharpen        0 to 10: strength of an unsharp mask on lightness
//	background     RRGGBB or RGB hexadecimal, white, black, transparent. A colour is laid under the
//	               image; by default padding is transparent where the format can be, else white.
//	strip          true (default) or false
//
// The order is: EXIF orientation, rotate, flip, size, background, blur,
// sharpen. width and height are those of the turned image, at most 8192 px a
// side after dpr, given or derived.
//
// # Metadata and colour
//
// The output is 8-bit. With strip=true it carries no metadata and its colours
// are sRGB (or grey): an embedded ICC profile is converted from, not dropped.
// With strip=false an RGB image keeps its pixels' colour space and its ICC
// profile, and EXIF and XMP stay, with the orientation set to upright, since the
// pixels now are; grey and CMYK images with a profile are converted even then.
//
// # Input
//
// The bytes decide what an input is, never its Content-Type: a PNG sent as
// image/jpeg, or as text/html, is served as the PNG it is. Of an animation the
// first frame is read. JPEG, PNG, WebP, GIF, AVIF and HEIC are read, through
// exactly those libvips loaders, all of them fuzzed upstream; every other loader
// is blocked for the whole process.
//
// # Invariants
//
//   - Sizes come from the header: no pixel of an image over 50 megapixels, or of
//     a call with a bad parameter, is decoded.
//   - An input that is damaged or cut short is problem.CorruptInput, never a
//     half image.
//   - What is decided (params, plan) is pure; libvips only carries it out.
//   - One call at a time: Resize holds a lock, because libvips's error text and
//     decode warnings are the process's, not the call's, and because liborc, which
//     generates libvips's inner loops, allocates code without a lock in the version
//     of Debian 12 (0.4.33): two pipelines at once in a process can corrupt its
//     heap (three crashes seen in some twenty minutes of bimg on two threads). So:
//     one process per core.
//
// # Two routes, one finish
//
// The plain route is bimg alone, for the main job: shrinking an upright sRGB
// JPEG. The develop route (develop.c) is for what bimg gets wrong: turns, alpha,
// colour profiles, CMYK, 16 bits, enlarging, padding. It leaves a small
// uncompressed image, which bimg then encodes like any other.
//
// It does not fetch images, animate, cache, or decide who may call.
package resize
