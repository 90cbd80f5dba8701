package resize

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
)

// Warm makes the first call as fast as the next: it resizes a small image on
// each route, so that libvips has loaded its modules and made its tables.
func Warm() error {
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, image.NewYCbCr(image.Rect(0, 0, 64, 64), image.YCbCrSubsampleRatio420), nil); err != nil {
		return fmt.Errorf("resize: warm: make a JPEG: %w", err)
	}
	for _, query := range []string{"width=16", "width=16&rotate=90&format=webp", "width=16&format=avif"} {
		p, err := ParseParams(query)
		if err != nil {
			return fmt.Errorf("resize: warm: %w", err)
		}
		if _, err := Resize(context.Background(), photo.Bytes(), p, ""); err != nil {
			return fmt.Errorf("resize: warm with %s: %w", query, err)
		}
	}
	return nil
}
