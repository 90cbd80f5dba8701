package resize

import (
	"encoding/binary"
	"math"
	"testing"
	"unicode/utf16"
)

// matrixProfile makes a display profile of three colours and a gamma (ICC.1:2001,
// a "three-component matrix-based" profile): columns are the XYZ of the red, green
// and blue primary, relative to the D50 white point.
func matrixProfile(name string, columns [3][3]float64, gamma float64) []byte {
	fixed := func(out []byte, v float64) []byte {
		return binary.BigEndian.AppendUint32(out, uint32(int32(math.Round(v*65536))))
	}
	xyz := func(v [3]float64) []byte {
		out := []byte("XYZ \x00\x00\x00\x00")
		for _, c := range v {
			out = fixed(out, c)
		}
		return out
	}
	curve := []byte("curv\x00\x00\x00\x00\x00\x00\x00\x01")
	curve = append(binary.BigEndian.AppendUint16(curve, uint16(math.Round(gamma*256))), 0, 0)
	return assembleProfile([]profileTag{
		{"desc", asciiDescription(name)},
		{"wtpt", xyz([3]float64{0.9642, 1, 0.8249})},
		{"rXYZ", xyz(columns[0])}, {"gXYZ", xyz(columns[1])}, {"bXYZ", xyz(columns[2])},
		{"rTRC", curve}, {"gTRC", curve}, {"bTRC", curve},
	})
}

type profileTag struct {
	name string
	data []byte
}

func asciiDescription(text string) []byte {
	out := []byte("desc\x00\x00\x00\x00")
	out = binary.BigEndian.AppendUint32(out, uint32(len(text)+1))
	out = append(append(out, text...), 0)
	return append(out, make([]byte, 4+4+2+1+67)...) // no Unicode, no Macintosh text
}

func localizedDescription(text string) []byte {
	units := utf16.Encode([]rune(text))
	out := []byte("mluc\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0cenUS")
	out = binary.BigEndian.AppendUint32(out, uint32(2*len(units)))
	out = binary.BigEndian.AppendUint32(out, 28)
	for _, unit := range units {
		out = binary.BigEndian.AppendUint16(out, unit)
	}
	return out
}

func assembleProfile(tags []profileTag) []byte {
	header := make([]byte, 128)
	copy(header[8:], "\x02\x10\x00\x00mntrRGB XYZ ")
	copy(header[36:], "acsp")
	copy(header[68:], "\x00\x00\xf6\xd6\x00\x01\x00\x00\x00\x00\xd3\x2d") // D50
	table := binary.BigEndian.AppendUint32(nil, uint32(len(tags)))
	var data []byte
	start := 128 + 4 + 12*len(tags)
	for _, tag := range tags {
		table = append(table, tag.name...)
		table = binary.BigEndian.AppendUint32(table, uint32(start+len(data)))
		table = binary.BigEndian.AppendUint32(table, uint32(len(tag.data)))
		data = append(data, tag.data...)
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
	}
	profile := append(append(header, table...), data...)
	binary.BigEndian.PutUint32(profile, uint32(len(profile)))
	return profile
}

func TestKindOfProfile(t *testing.T) {
	for _, test := range []struct {
		name    string
		profile []byte
		want    profileKind
	}{
		{"none", nil, noProfile},
		{"HP's sRGB", assembleProfile([]profileTag{{"desc", asciiDescription("sRGB IEC61966-2.1")}}), srgbProfile},
		{"a version 4 sRGB", assembleProfile([]profileTag{{"cprt", nil}, {"desc", localizedDescription("sRGB built-in")}}), srgbProfile},
		{"Display P3", assembleProfile([]profileTag{{"desc", localizedDescription("Display P3")}}), otherProfile},
		{"Adobe RGB", assembleProfile([]profileTag{{"desc", asciiDescription("Adobe RGB (1998)")}}), otherProfile},
		{"no description", assembleProfile([]profileTag{{"cprt", nil}}), otherProfile},
		{"an odd description", assembleProfile([]profileTag{{"desc", []byte("text")}}), otherProfile},
		{"too short", []byte("sRGB"), otherProfile},
	} {
		if got := kindOfProfile(test.profile); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func FuzzProfileDescription(f *testing.F) {
	f.Add(assembleProfile([]profileTag{{"desc", asciiDescription("sRGB")}}))
	f.Add(assembleProfile([]profileTag{{"desc", localizedDescription("Display P3")}}))
	huge := assembleProfile([]profileTag{{"desc", asciiDescription("sRGB")}})
	binary.BigEndian.PutUint32(huge[128:], math.MaxUint32)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, profile []byte) {
		if len(profileDescription(profile)) > 2*len(profile) {
			t.Fatal("the description is longer than the profile")
		}
	})
}
