package resize

import (
	"bytes"
	"fmt"
	"testing"
)

// withEverything is a photograph lying on its side, with EXIF that names a maker
// and the orientation, XMP, and a profile.
func withEverything(t *testing.T) []byte {
	t.Helper()
	exif := []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x02")
	exif = append(exif, 0x01, 0x0f, 0, 2, 0, 0, 0, 8, 0, 0, 0, 38) // Make: 8 bytes of ASCII at 38
	exif = append(exif, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0)  // Orientation: 6
	exif = append(exif, "\x00\x00\x00\x00MyMaker\x00"...)
	file := withProfile(smallJPEG(), matrixProfile("Display P3", displayP3, 2.2))
	file = withSegment(file, 0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta xmlns:x='adobe:ns:meta/'>MyTitle</x:xmpmeta>"))
	return withSegment(file, 0xe1, exif)
}

func TestStrip(t *testing.T) {
	file := withEverything(t)
	for _, format := range []string{"jpeg", "png", "webp", "avif"} {
		for _, turn := range []string{"", "&rotate=270"} {
			for _, strip := range []bool{true, false} {
				query := fmt.Sprintf("width=100&quality=90&format=%s&strip=%v%s", format, strip, turn)
				output := call(t, file, query).Body
				f, err := sniff(output)
				if err != nil {
					t.Fatal(err)
				}
				h, err := readHeader(output, f)
				if err != nil {
					t.Fatal(err)
				}
				if h.orientation != 1 {
					t.Errorf("%s: a viewer would turn it again (orientation %d)", query, h.orientation)
				}
				if (h.profile == otherProfile) == strip {
					t.Errorf("%s: the profile is of kind %d", query, h.profile)
				}
				if format == "png" { // compresses its text: read it back through a JPEG
					output = call(t, output, "format=jpeg&strip=false").Body
				}
				for _, text := range []string{"MyMaker", "MyTitle"} {
					if bytes.Contains(output, []byte(text)) == strip {
						t.Errorf("%s: that %s is in the output is %v", query, text, strip)
					}
				}
			}
		}
	}
}

// Kept profile or converted colours: both look the same.
func TestKeptProfilesKeepThePixels(t *testing.T) {
	file := withEverything(t)
	kept := see(t, call(t, file, "width=100&format=png&strip=false").Body)
	bare := see(t, call(t, withOrientation(smallJPEG(), 6), "width=100&format=png").Body)
	if d := difference(kept, bare); d > 0 {
		t.Errorf("pixels whose profile is kept changed by %.2f", d)
	}
	converted := see(t, call(t, file, "width=100&format=png").Body)
	if d := difference(converted, bare); d < 1 {
		t.Errorf("stripping the profile left the pixels as they were (%.2f)", d)
	}
}
