package resize

import (
	"lightcone/internal/problem"
)

const (
	maxPixels = 50_000_000 // of the input, before any decode

	// The plain route holds the decoded image whole; beyond this the develop
	// route, which reads rows, is the better guest.
	maxPlainPixels = 16_000_000
)

// colourSpace says what an image's colour bands mean.
type colourSpace int

const (
	spaceRGB colourSpace = iota
	spaceGrey
	spaceCMYK
	spaceOther
)

// header is what is known of an image before its pixels are decoded.
type header struct {
	format      format
	stored      size // before the EXIF orientation
	orientation int  // EXIF, 1 to 8
	space       colourSpace
	deep        bool // more than 8 bits a band
	alpha       bool
	profile     profileKind
}

// plan is everything that is decided about a call before a pixel is decoded.
type plan struct {
	plain  bool // bimg alone, in one pass; else develop first
	layout layout
	turn   turn // EXIF orientation, rotate and flip in one

	jpegShrink int     // 1, 2, 4 or 8: how much smaller libjpeg decodes, on the develop route
	webpScale  float64 // the same for libwebp, as a factor up to 1

	useProfile   bool // convert from the embedded profile to sRGB
	keepMetadata bool
	flatten      bool // lay the image on ink
	padClear     bool // pad with nothing, else with ink
	ink          background
	smart        bool // the crop is placed by attention
	enlarges     bool // on either axis

	blur, sharpen float64
	format        format
	quality       int
	vary          bool // the format followed the Accept header
}

// decide plans a call. Its errors are problem.TooManyPixels and BadParameter.
func decide(p Params, h header, accept string) (plan, error) {
	if h.stored.pixels() > maxPixels {
		return plan{}, problem.New(problem.TooManyPixels, "The image is %d x %d px, which is %.1f megapixels; at most %d megapixels are read.",
			h.stored.width, h.stored.height, float64(h.stored.pixels())/1e6, maxPixels/1_000_000)
	}
	made := plan{
		turn:         exifTurn(h.orientation).then(p.turn),
		keepMetadata: p.keepMetadata,
		blur:         p.blur,
		sharpen:      p.sharpen,
	}
	var err error
	if made.layout, err = arrange(p, made.turn.size(h.stored)); err != nil {
		return plan{}, err
	}
	made.smart = p.gravity == gravitySmart && made.layout.crop.size != made.layout.scaled
	made.chooseFormat(p, h, accept)
	made.chooseBackground(p, h)
	// A kept profile describes RGB pixels only; grey and CMYK are always converted.
	made.useProfile = h.profile == otherProfile && (!p.keepMetadata || h.space != spaceRGB)
	made.chooseShrink(h)
	wanted := made.source()
	made.enlarges = wanted.width > h.stored.width || wanted.height > h.stored.height
	made.plain = made.plainSuffices(h)
	return made, nil
}

func (made *plan) chooseFormat(p Params, h header, accept string) {
	switch p.format {
	case "":
		made.format = h.format.defaultOutput()
	case autoFormat:
		solid := p.background.given && !p.background.transparent
		clearPad := p.fit == fitPad && p.background.transparent
		made.format, made.vary = negotiate(accept, (h.alpha && !solid) || clearPad), true
	default:
		made.format = p.format
	}
	made.quality = p.quality
	if made.quality == 0 {
		made.quality = map[format]int{jpegFormat: 80, webpFormat: 80, avifFormat: 50, pngFormat: 100}[made.format]
	}
}

func (made *plan) chooseBackground(p Params, h header) {
	solid := p.background.given && !p.background.transparent
	made.ink = background{red: 255, green: 255, blue: 255}
	if solid {
		made.ink = p.background
	}
	made.flatten = h.alpha && (solid || !made.format.hasAlpha())
	made.padClear = made.layout.pads() && !solid && made.format.hasAlpha()
}

// pads says whether the canvas is larger than what is laid on it.
func (l layout) pads() bool { return l.canvas != l.crop.size }

// source is the scaled size before the turn.
func (made *plan) source() size { return made.turn.inverse().size(made.layout.scaled) }

// chooseShrink lets the decoder do the first part of the shrinking where the
// rest is still a shrink, as the quality of a decoder's own scaling is less.
func (made *plan) chooseShrink(h header) {
	wanted := made.source()
	made.jpegShrink = 1
	for _, shrink := range []int{8, 4, 2} {
		if h.stored.width/shrink >= wanted.width && h.stored.height/shrink >= wanted.height {
			made.jpegShrink = shrink
			break
		}
	}
	// libwebp scales colours without regard to alpha, and with a plainer filter
	// than libvips: it may do half of the work on opaque images.
	factor := min(float64(h.stored.width)/float64(wanted.width), float64(h.stored.height)/float64(wanted.height))
	made.webpScale = 1
	if factor > 2 && !h.alpha {
		made.webpScale = 2 / factor
	}
}

// plainSuffices says whether bimg alone gets this call right.
func (made *plan) plainSuffices(h header) bool {
	switch {
	case h.format != jpegFormat, h.deep, h.space != spaceRGB && h.space != spaceGrey:
		return false // bimg scales see-through pixels and 16 bits wrongly, and drops CMYK's profile
	case made.useProfile:
		return false // bimg drops profiles instead of converting from them
	case made.turn != identity, made.keepMetadata && h.orientation > 1:
		return false // bimg turns the full image, and would keep the tag
	case made.smart, made.layout.pads():
		return false
	}
	decoded, ends := bimgEndsAt(h.stored, made.layout.scaled)
	return ends && decoded.pixels() <= maxPlainPixels
}

// bimgEndsAt follows bimg.Resize with Force and a bilinear interpolator: which
// size libjpeg decodes to, and whether what is left to do is a reduction on both
// axes (Lanczos), or nothing. Else bimg would fall back to an affine transform,
// which blurs, and may miss the size by a pixel.
func bimgEndsAt(image, wanted size) (decoded size, reduces bool) {
	factor := max(float64(image.width)/float64(wanted.width), float64(image.height)/float64(wanted.height))
	shrink := max(1, int(factor))
	onLoad := 1
	for _, step := range []int{8, 4, 2} {
		if shrink >= step {
			onLoad = step
			break
		}
	}
	decoded = size{image.width / onLoad, image.height / onLoad}
	if onLoad > 1 {
		shrink = max(1, int(factor/float64(onLoad)))
	}
	left := size{decoded.width / shrink, decoded.height / shrink}
	exact := wanted.width*shrink == decoded.width && wanted.height*shrink == decoded.height
	return decoded, exact || (wanted.width < left.width && wanted.height < left.height)
}
