package resize

import (
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lightcone/internal/problem"
)

// The bounds of what may be asked for.
const (
	maxSide    = 8192 // px, each side of the output, after dpr
	minDPR     = 0.1
	maxDPR     = 8
	maxBlur    = 100 // px
	maxSharpen = 10
)

// fit says how an image meets a box of another shape, as CSS object-fit does.
type fit string

const (
	fitContain   fit = "contain"
	fitCover     fit = "cover"
	fitFill      fit = "fill"
	fitScaleDown fit = "scale-down"
	fitPad       fit = "pad"
)

// gravity says which part of an image a crop keeps.
type gravity string

const (
	gravityCenter gravity = "center"
	gravitySmart  gravity = "smart"
)

// gravities gives each fixed gravity its place: the share of what is cut off
// that is cut off at the left and at the top.
var gravities = map[gravity]struct{ left, top float64 }{
	gravityCenter: {0.5, 0.5},
	"north":       {0.5, 0}, "north-east": {1, 0}, "east": {1, 0.5}, "south-east": {1, 1},
	"south": {0.5, 1}, "south-west": {0, 1}, "west": {0, 0.5}, "north-west": {0, 0},
}

// background is a colour behind the image.
type background struct {
	given       bool
	transparent bool
	red         uint8
	green       uint8
	blue        uint8
}

// Params is one call's wishes, valid as they stand. Its zero value is not: use
// ParseParams.
type Params struct {
	width, height int // px before dpr; 0 = not given
	fit           fit
	gravity       gravity
	format        format // "" = follow the input; autoFormat = follow the Accept header
	quality       int    // 0 = the output format's default
	dpr           float64
	turn          turn
	blur          float64 // standard deviation, px; 0 = none
	sharpen       float64 // strength; 0 = none
	background    background
	keepMetadata  bool
}

// autoFormat lets the Accept header choose.
const autoFormat format = "auto"

// ParseParams reads a query string without its question mark. Its errors are
// problem.BadParameter, naming the parameter, its value and what is allowed. A
// parameter may be given once; an empty value is an error except for flip.
func ParseParams(query string) (Params, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return Params{}, problem.New(problem.BadParameter, "The query string %s cannot be read; want name=value pairs joined by &, percent-encoded.", quote(query)).Because(err)
	}
	p := Params{fit: fitScaleDown, gravity: gravityCenter, dpr: 1}
	var rotate, flip turn
	// Sorted, so that of several mistakes the same one is named each time.
	for _, name := range slices.Sorted(maps.Keys(values)) {
		given := values[name]
		if len(given) > 1 {
			return Params{}, problem.New(problem.BadParameter, "The parameter %s is given %d times; give it once.", quote(name), len(given))
		}
		var allowed string // set when the value is not allowed
		value := given[0]
		switch name {
		case "width":
			p.width, allowed = wholeNumber(value, 1, maxSide)
		case "height":
			p.height, allowed = wholeNumber(value, 1, maxSide)
		case "fit":
			p.fit, allowed = oneOf(value, fitContain, fitCover, fitFill, fitScaleDown, fitPad)
		case "gravity":
			p.gravity, allowed = oneOf(value, gravityCenter, "north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west", gravitySmart)
		case "format":
			p.format, allowed = oneOf(value, autoFormat, jpegFormat, pngFormat, webpFormat, avifFormat)
		case "quality":
			p.quality, allowed = wholeNumber(value, 1, 100)
		case "dpr":
			p.dpr, allowed = number(value, minDPR, maxDPR)
		case "rotate":
			var degrees string
			degrees, allowed = oneOf(value, "0", "90", "180", "270")
			rotate = map[string]turn{"90": {quarters: 1}, "180": {quarters: 2}, "270": {quarters: 3}}[degrees]
		case "flip":
			flip, allowed = parseFlip(value)
		case "blur":
			p.blur, allowed = number(value, 0, maxBlur)
		case "sharpen":
			p.sharpen, allowed = number(value, 0, maxSharpen)
		case "background":
			p.background, allowed = parseBackground(value)
		case "strip":
			var strip string
			strip, allowed = oneOf(value, "true", "false")
			p.keepMetadata = strip == "false"
		default:
			return Params{}, problem.New(problem.BadParameter, "There is no parameter %s; resize takes width, height, fit, gravity, format, quality, dpr, rotate, flip, blur, sharpen, background and strip.", quote(name))
		}
		if allowed != "" {
			return Params{}, problem.New(problem.BadParameter, "The parameter %s=%s is not allowed; want %s.", name, quote(value), allowed)
		}
	}
	p.turn = rotate.then(flip)
	for _, side := range []struct {
		name string
		px   int
	}{{"width", p.width}, {"height", p.height}} {
		if px := scaled(side.px, p.dpr); px > maxSide {
			return Params{}, problem.New(problem.BadParameter, "The parameter %s=%d with dpr=%v asks for %d px; the output may have at most %d px each side.", side.name, side.px, p.dpr, px, maxSide)
		}
	}
	return p, nil
}

// scaled is a side in the output's pixels: never below 1, unless not given (0).
func scaled(px int, dpr float64) int {
	if px == 0 {
		return 0
	}
	return max(1, int(math.Round(float64(px)*dpr)))
}

// quote shows a caller's text back to them, short and on one line.
func quote(text string) string {
	const longest = 40
	if len(text) > longest {
		return strconv.QuoteToASCII(text[:longest]) + "…"
	}
	return strconv.QuoteToASCII(text)
}

func wholeNumber(value string, low, high int) (n int, allowed string) {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		return 0, "a whole number from " + strconv.Itoa(low) + " to " + strconv.Itoa(high)
	}
	return n, ""
}

func number(value string, low, high float64) (n float64, allowed string) {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || !(n >= low && n <= high) { // written so that NaN fails
		show := func(bound float64) string { return strconv.FormatFloat(bound, 'g', -1, 64) }
		return 0, "a number from " + show(low) + " to " + show(high)
	}
	return n, ""
}

func oneOf[T ~string](value string, choices ...T) (choice T, allowed string) {
	if slices.Contains(choices, T(value)) {
		return T(value), ""
	}
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = string(c)
	}
	return "", "one of " + strings.Join(words, ", ")
}

// parseFlip takes the words other image services use as well as our own.
func parseFlip(value string) (flip turn, allowed string) {
	switch value {
	case "horizontal", "h", "true", "":
		return mirrorSideways, ""
	case "vertical", "v":
		return mirrorUpDown, ""
	case "both", "hv", "vh":
		return turn{quarters: 2}, ""
	case "none", "false":
		return identity, ""
	}
	return identity, "horizontal, vertical, both or none"
}

func parseBackground(value string) (colour background, allowed string) {
	switch value {
	case "transparent":
		return background{given: true, transparent: true}, ""
	case "white":
		value = "ffffff"
	case "black":
		value = "000000"
	}
	hex := strings.TrimPrefix(value, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if len(hex) != 6 || err != nil {
		return background{}, "a colour as RRGGBB or RGB in hexadecimal digits, or white, black or transparent"
	}
	return background{given: true, red: uint8(n >> 16), green: uint8(n >> 8), blue: uint8(n)}, ""
}
