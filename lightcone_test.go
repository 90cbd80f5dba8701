package lightcone

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		name string
		good bool
	}{
		{"resize", true}, {"a", true}, {"a-1", true}, {strings.Repeat("a", 63), true},
		{"", false}, {strings.Repeat("a", 64), false}, {"1a", false}, {"-a", false}, {"A", false}, {"a_b", false}, {"a/b", false}, {"a\n", false}, {"ä", false},
	} {
		for _, err := range []error{TenantID(test.name).Validate(), FunctionName(test.name).Validate()} {
			if (err == nil) != test.good {
				t.Errorf("%q: %v", test.name, err)
			}
		}
	}
}

// The example of the ULID specification: 01ARZ3NDEKTSV4RRFFQ69G5FAV.
func TestCallIDIsAULID(t *testing.T) {
	at := time.UnixMilli(0x01563e3ab5d3)
	id, err := NewCallID(at, bytes.NewReader([]byte{0xd6, 0x76, 0x4c, 0x61, 0xef, 0xb9, 0x93, 0x02, 0xbd, 0x5b}))
	if err != nil {
		t.Fatal(err)
	}
	if got := id.String(); got != "01ARZ3NDEKTSV4RRFFQ69G5FAV" {
		t.Errorf("the id reads %s", got)
	}
	if !id.Time().Equal(at) {
		t.Errorf("it arrived at %v, not %v", id.Time(), at)
	}
}

func TestCallIDsSortByArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "random")
		first := rapid.Int64Range(0, 1<<48-2).Draw(t, "first")
		later := rapid.Int64Range(first+1, 1<<48-1).Draw(t, "later")
		a, errA := NewCallID(time.UnixMilli(first), bytes.NewReader(random[:10]))
		b, errB := NewCallID(time.UnixMilli(later), bytes.NewReader(random[10:]))
		if errA != nil || errB != nil || a.String() >= b.String() || len(a.String()) != 26 {
			t.Fatalf("%s (%v) and %s (%v)", a, errA, b, errB)
		}
	})
}

func TestCallIDNeedsRandomness(t *testing.T) {
	if id, err := NewCallID(time.Now(), bytes.NewReader(make([]byte, 9))); err == nil {
		t.Errorf("nine bytes made %s", id)
	}
}

func TestParseCallID(t *testing.T) {
	const good = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for _, text := range []string{good, "00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"} {
		id, err := ParseCallID(text)
		if err != nil || id.String() != text {
			t.Errorf("%s came back as %s, %v", text, id, err)
		}
	}
	for _, text := range []string{
		"", good[1:], good + "0", strings.ToLower(good), "8" + good[1:], "Z" + good[1:], "/" + good[1:],
		good[:25] + "I", good[:25] + "L", good[:25] + "O", good[:25] + "U", good[:25] + "-", good[:25] + "\n", good[:25] + "\xff",
		strings.Repeat("0", 1<<20),
	} {
		id, err := ParseCallID([]byte(text))
		if err == nil || id != (CallID{}) {
			t.Errorf("%.40q passes for the id %s", text, id)
		} else if len(err.Error()) > 500 {
			t.Errorf("the error repeats %d bytes", len(err.Error()))
		}
	}
}

func FuzzParseCallID(f *testing.F) {
	for _, seed := range []string{"01ARZ3NDEKTSV4RRFFQ69G5FAV", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01arz3ndektsv4rrffq69g5fav", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseCallID(text); err == nil && id.String() != text {
			t.Errorf("%q reads as %s", text, id)
		}
	})
}

func TestDigest(t *testing.T) {
	// FIPS 180-2, appendix B.1.
	if got := DigestOf([]byte("abc")).String(); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("SHA-256 of abc is %s", got)
	}
}

func TestDigestText(t *testing.T) {
	want := DigestOf([]byte("a body"))
	text, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got Digest
	if err := got.UnmarshalText(text); err != nil || got != want {
		t.Errorf("%s came back as %s (%v)", want, got, err)
	}
	for _, bad := range []string{"", "00", string(text) + "00", "g" + string(text[1:])} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q passes for a digest", bad)
		}
	}
}
