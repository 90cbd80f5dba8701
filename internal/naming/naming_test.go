package naming

import (
	"slices"
	"testing"
)

func TestOutput(t *testing.T) {
	for _, test := range []struct {
		name Name
		kind string
		want string
	}{
		{Name{Path: "a/b.jpg"}, "image/webp", "a/b.webp"},
		{Name{Path: "a/b.JPEG"}, "image/jpeg", "a/b.JPEG"},
		{Name{Path: "a.jpg"}, "image/webp; q=1", "a.webp"},
		{Name{Path: "a.jpg"}, "text/plain", "a.jpg"},
		{Name{Path: "a.jpg"}, ";;", "a.jpg"},
		{Name{Path: "a"}, "image/png", "a.png"},
		{Name{Path: "d/.hidden"}, "image/png", "d/.hidden.png"},
		{Name{Path: "a.jpg", Crowded: true}, "image/webp", "a.jpg.webp"},
		{Name{Path: "a.webp", Taken: true, Crowded: true}, "image/webp", "a.webp.webp"},
		{Name{Path: "a.bin", Taken: true, Crowded: true}, "text/plain", "a.bin.bin"},
		{Name{Path: "a.jfif", Taken: true, Crowded: true}, "image/jpeg", "a.jfif"},
	} {
		got := test.name.Output(test.kind)
		if got != test.want {
			t.Errorf("%+v as %q: %q, want %q", test.name, test.kind, got, test.want)
		}
		if candidates := test.name.Candidates(); !slices.Contains(candidates, got) {
			t.Errorf("%+v: %q is not among the candidates %q", test.name, got, candidates)
		}
	}
}
