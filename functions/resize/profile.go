package resize

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
)

// profileKind says what an image's ICC profile asks for.
type profileKind int

const (
	noProfile    profileKind = iota
	srgbProfile              // the colours are sRGB already
	otherProfile             // the colours mean something else, such as Display P3
)

// srgbNames are the descriptions of the sRGB profiles in common use: HP's and
// its black-scaled variant, the ICC's, LittleCMS's, GIMP's, and the shortened
// one that large web sites embed ("c2").
var srgbNames = map[string]bool{
	"sRGB IEC61966-2.1":                  true,
	"sRGB IEC61966-2-1 black scaled":     true,
	"sRGB IEC61966-2-1 no black scaling": true,
	"sRGB2014":                           true,
	"sRGB built-in":                      true,
	"GIMP built-in sRGB":                 true,
	"sRGB":                               true,
	"c2":                                 true,
}

func kindOfProfile(profile []byte) profileKind {
	switch {
	case len(profile) == 0:
		return noProfile
	case srgbNames[profileDescription(profile)]:
		return srgbProfile
	default:
		return otherProfile
	}
}

// profileDescription reads the first text of a profile's 'desc' tag: ICC.1:2001
// 6.5.17 (textDescriptionType, ASCII) or ICC.1:2022 10.15 (multiLocalizedUnicode,
// UTF-16BE). It is "" for a profile that is damaged or has none.
func profileDescription(profile []byte) string {
	const tableStart, entrySize = 128, 12
	if len(profile) < tableStart+4 {
		return ""
	}
	table := profile[tableStart+4:]
	for count := binary.BigEndian.Uint32(profile[tableStart:]); count > 0 && len(table) >= entrySize; count-- {
		entry := table[:entrySize]
		table = table[entrySize:]
		if string(entry[:4]) != "desc" {
			continue
		}
		tag := part(profile, binary.BigEndian.Uint32(entry[4:]), binary.BigEndian.Uint32(entry[8:]))
		switch {
		case len(tag) >= 12 && string(tag[:4]) == "desc":
			text := part(tag, 12, binary.BigEndian.Uint32(tag[8:]))
			return string(bytes.TrimRight(text, "\x00"))
		case len(tag) >= 28 && string(tag[:4]) == "mluc":
			text := part(tag, binary.BigEndian.Uint32(tag[24:]), binary.BigEndian.Uint32(tag[20:]))
			units := make([]uint16, len(text)/2)
			for i := range units {
				units[i] = binary.BigEndian.Uint16(text[2*i:])
			}
			return string(bytes.TrimRight([]byte(string(utf16.Decode(units))), "\x00"))
		}
		return ""
	}
	return ""
}

// part is length bytes of data from offset, nil where data has not so many.
func part(data []byte, offset, length uint32) []byte {
	end := uint64(offset) + uint64(length)
	if end > uint64(len(data)) {
		return nil
	}
	return data[offset:end]
}
