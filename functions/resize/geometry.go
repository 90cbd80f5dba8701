package resize

import (
	"math"

	"lightcone/internal/problem"
)

// size is in pixels.
type size struct{ width, height int }

func (s size) pixels() int { return s.width * s.height }

// area is a part of an image, in pixels from its top left corner.
type area struct {
	left, top int
	size
}

// layout says how big the image becomes, which part of it stays, and how big a
// canvas it is centred on. All three are those of the upright, turned image.
type layout struct {
	scaled size
	crop   area
	canvas size // the output's size; larger than crop only for fit=pad
}

// maxScaledSide bounds the whole image that a crop is taken from when a sliver
// is asked to cover a large box. libvips's own bound is 10 million.
const maxScaledSide = 1 << 20

// arrange decides the layout of an upright image under p. Its errors are
// problem.BadParameter: the sides that follow from the image's shape are too long.
func arrange(p Params, image size) (layout, error) {
	width, height := scaled(p.width, p.dpr), scaled(p.height, p.dpr)
	xScale := float64(width) / float64(image.width)
	yScale := float64(height) / float64(image.height)

	var l layout
	switch both := width > 0 && height > 0; {
	case width == 0 && height == 0:
		l.scaled = image
	case !both:
		l.scaled = multiply(image, max(xScale, yScale), width, height) // the scale of the missing side is 0
	case p.fit == fitFill:
		l.scaled = size{width, height}
	case p.fit == fitCover:
		l.scaled = multiply(image, max(xScale, yScale), width, height)
	default:
		l.scaled = multiply(image, min(xScale, yScale), width, height)
	}
	if p.fit == fitScaleDown && (l.scaled.width > image.width || l.scaled.height > image.height) {
		l.scaled = image
	}
	l.crop = area{size: l.scaled}
	l.canvas = l.scaled
	if width > 0 && height > 0 {
		switch p.fit {
		case fitCover:
			l.crop.size = size{width, height}
			place := gravities[p.gravity] // smart chooses its own
			l.crop.left = int(place.left * float64(l.scaled.width-width))
			l.crop.top = int(place.top * float64(l.scaled.height-height))
			l.canvas = l.crop.size
		case fitPad:
			l.canvas = size{width, height}
		}
	}
	return l, l.check(p, image)
}

// multiply scales both sides, and makes the side that decided the scale exact:
// floating point must not turn 300 px into 299. 0 = the side was not given.
func multiply(image size, scale float64, width, height int) size {
	result := size{
		max(1, int(math.Round(float64(image.width)*scale))),
		max(1, int(math.Round(float64(image.height)*scale))),
	}
	if width > 0 && scale == float64(width)/float64(image.width) {
		result.width = width
	}
	if height > 0 && scale == float64(height)/float64(image.height) {
		result.height = height
	}
	return result
}

// check refuses outputs that are too large although width and height are not.
func (l layout) check(p Params, image size) error {
	for _, side := range []struct {
		name       string
		given      bool
		px, scaled int
	}{
		{"width", p.width > 0, l.canvas.width, l.scaled.width},
		{"height", p.height > 0, l.canvas.height, l.scaled.height},
	} {
		switch {
		case side.px > maxSide && !side.given:
			return problem.New(problem.BadParameter, "The output's %s would be %d px, because none is given and the image is %d x %d px; give a %s of at most %d, or a smaller box.",
				side.name, side.px, image.width, image.height, side.name, maxSide)
		case side.px > maxSide:
			return problem.New(problem.BadParameter, "The output's %s would be %d px; the output may have at most %d px each side.", side.name, side.px, maxSide)
		case side.scaled > maxScaledSide, p.gravity == gravitySmart && l.scaled != l.canvas && l.scaled.pixels() > maxSide*maxSide:
			return problem.New(problem.BadParameter, "To cover %d x %d px, the image of %d x %d px would first become %d x %d px, which is too large; ask for a smaller width or height.",
				l.canvas.width, l.canvas.height, image.width, image.height, l.scaled.width, l.scaled.height)
		}
	}
	return nil
}
