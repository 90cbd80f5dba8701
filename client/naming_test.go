package client

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestOutputNames(t *testing.T) {
	for _, test := range []struct {
		inputs      []string
		contentType string
		want        []string
	}{
		{[]string{"a.jpg"}, "image/webp", []string{"a.webp"}},
		{[]string{"a.JPEG", "b/c.jpg"}, "image/jpeg", []string{"a.JPEG", "b/c.jpg"}},
		{[]string{"a.jpg", "a.png", "b.png"}, "image/webp", []string{"a.jpg.webp", "a.png.webp", "b.webp"}},
		{[]string{"a.jpg", "b/a.png"}, "image/webp", []string{"a.webp", "b/a.webp"}},
		{[]string{"a", "a.jpg"}, "image/png", []string{"a.png", "a.jpg.png"}},
		{[]string{"a.png", "a.png.webp"}, "image/webp", []string{"a.png.webp", "a.png.webp.webp"}},
		{[]string{"v1.2/photo"}, "image/png", []string{"v1.2/photo.png"}},
		{[]string{"b/.jpg", ".hidden"}, "image/png", []string{"b/.jpg.png", ".hidden.png"}},
		{[]string{"a.jpg"}, "application/x-strange", []string{"a.jpg"}},
		{[]string{"a.jpg"}, "image/png; q=1", []string{"a.png"}},
		{[]string{"a.jpg"}, "", []string{"a.jpg"}},
		{[]string{"a.jpg", "a"}, "application/x-strange", []string{"a.jpg.bin", "a"}}, // a may yet become a.jpg
		{[]string{"README", "README.md"}, "application/x-strange", []string{"README", "README.md"}},
	} {
		names := NamesFor(test.inputs)
		for i, input := range test.inputs {
			if got := names.Output(input, test.contentType); got != test.want[i] {
				t.Errorf("among %q, %s as %s is called %s, want %s", test.inputs, input, test.contentType, got, test.want[i])
			}
		}
	}
}

// TestOutputsNeverMeet draws awkward names, each with any answer's type.
func TestOutputsNeverMeet(t *testing.T) {
	types := []string{"image/jpeg", "image/png", "image/webp", "application/x-strange"}
	name := rapid.StringMatching(`(d/)?(a|b|\.a|\.\.)(\.(jpg|jpeg|png|webp|bin|x)){1,3}|(d/)?(a|b|\.a)`)
	rapid.Check(t, func(t *rapid.T) {
		inputs := rapid.SliceOfNDistinct(name, 1, 12, rapid.ID).Draw(t, "inputs")
		names := NamesFor(inputs)
		taken := make(map[string]string)
		for _, input := range inputs {
			output := names.Output(input, rapid.SampledFrom(types).Draw(t, "type"))
			if other, met := taken[output]; met {
				t.Fatalf("%s and %s are both called %s", input, other, output)
			}
			taken[output] = input
			if !slices.Contains(names.Candidates(input), output) {
				t.Fatalf("%s is called %s, which is not among its candidates %q", input, output, names.Candidates(input))
			}
		}
	})
}
