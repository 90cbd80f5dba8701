package resize

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"github.com/h2non/bimg"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// Handler answers a call of the resize function.
func Handler(ctx context.Context, r *http.Request, body []byte) (functions.Reply, error) {
	p, err := ParseParams(r.URL.RawQuery)
	if err != nil {
		return functions.Reply{}, err
	}
	return Resize(ctx, body, p, strings.Join(r.Header.Values("Accept"), ","))
}

// oneCall guards libvips's process-wide error text and warning counter.
var oneCall sync.Mutex

// Resize makes of input what p asks for; accept is the Accept header, which only
// format=auto reads. It looks at ctx between stages and cannot stop within one.
//
// Its errors are problems of kind UnsupportedMedia, CorruptInput, TooManyPixels,
// BadParameter and DeadlineExceeded; any other error is a failure of its own.
func Resize(ctx context.Context, input []byte, p Params, accept string) (functions.Reply, error) {
	oneCall.Lock()
	defer oneCall.Unlock()
	// libvips keeps buffers per thread, and bimg ends a call by freeing those of
	// the thread it is on: that must be the one the call began on.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f, err := sniff(input)
	if err != nil {
		return functions.Reply{}, err
	}
	h, err := readHeader(input, f)
	if err != nil {
		return functions.Reply{}, err
	}
	made, err := decide(p, h, accept)
	if err != nil {
		return functions.Reply{}, err
	}
	if err := inTime(ctx, "decoded"); err != nil {
		return functions.Reply{}, err
	}
	var output []byte
	if made.plain {
		output, err = printPlain(input, h, made)
	} else {
		output, err = developAndPrint(ctx, input, h, made)
	}
	if err != nil {
		return functions.Reply{}, err
	}
	reply := functions.Reply{ContentType: made.format.contentType(), Body: output}
	if made.vary {
		reply.Vary = "Accept"
	}
	return reply, nil
}

func inTime(ctx context.Context, next string) error {
	if err := ctx.Err(); err != nil {
		return problem.New(problem.DeadlineExceeded, "The call's deadline passed before the image was %s.", next).Because(err)
	}
	return nil
}

// printPlain is the plain route: bimg decodes, scales, crops and encodes.
func printPlain(input []byte, h header, made plan) ([]byte, error) {
	options := finish(made, h.space == spaceGrey)
	options.Force = true
	options.Width, options.Height = made.layout.scaled.width, made.layout.scaled.height
	options.Interpolator = bimg.Bilinear // with the default, libjpeg would shrink less
	if crop := made.layout.crop; crop.size != made.layout.scaled {
		options.Left, options.Top = crop.left, crop.top
		options.AreaWidth, options.AreaHeight = crop.width, crop.height
	}
	warned := decodeWarnings()
	output, err := bimg.Resize(input, options)
	runtime.KeepAlive(input) // libvips reads it until the end
	if err == nil && decodeWarnings() == warned {
		return output, nil
	}
	// The develop route refuses what bimg only warns of, and says why.
	developed, cause := develop(input, h.format, made)
	if cause != nil {
		return nil, cause
	}
	developed.free()
	if err != nil {
		return nil, fmt.Errorf("resize: encode %s: %w", made.format, err)
	}
	return nil, corrupt(h.format, "")
}

// developAndPrint is the develop route: develop.c leaves a small image to encode.
func developAndPrint(ctx context.Context, input []byte, h header, made plan) ([]byte, error) {
	developed, err := develop(input, h.format, made)
	if err != nil {
		return nil, err
	}
	defer developed.free()
	if err := inTime(ctx, "encoded"); err != nil {
		return nil, err
	}
	output, err := bimg.Resize(developed.bytes(), finish(made, developed.grey))
	if err != nil {
		return nil, fmt.Errorf("resize: encode %s: %w", made.format, err)
	}
	return output, nil
}

// finish is what both routes leave to the end: effects and encoding.
func finish(made plan, grey bool) bimg.Options {
	options := bimg.Options{
		NoAutoRotate:  true, // the plan has the turn
		StripMetadata: !made.keepMetadata,
		Quality:       made.quality,
		Type:          map[format]bimg.ImageType{jpegFormat: bimg.JPEG, pngFormat: bimg.PNG, webpFormat: bimg.WEBP, avifFormat: bimg.AVIF}[made.format],
		GaussianBlur:  bimg.GaussianBlur{Sigma: made.blur},
	}
	if made.format == avifFormat {
		options.Speed = 8 // bimg's 0 is the slowest
	}
	if grey {
		options.Interpretation = bimg.InterpretationBW // else a grey JPEG becomes a larger, coloured one
	}
	if made.sharpen > 0 {
		// libvips's own defaults (vips_sharpen), with the gain on edges as the
		// strength; flat areas stay as they are, so noise is not sharpened.
		options.Sharpen = bimg.Sharpen{Radius: 1, X1: 2, Y2: 10, Y3: 20, M1: 0, M2: made.sharpen}
	}
	return options
}
