package bulk

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lightcone/client"
	"lightcone/internal/naming"
)

// settle names a whole listing.
func settle(t fataler, keys []string) []candidate {
	var names namer
	var all []candidate
	for _, key := range keys {
		c, any, err := names.next(Object{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if any {
			all = append(all, c)
		}
	}
	if c, any := names.last(); any {
		all = append(all, c)
	}
	return all
}

var types = []string{"image/jpeg", "image/png", "image/webp", "text/plain", "", "application/json; charset=utf-8"}

// drawKeys draws names that are likely to be in each other's way.
func drawKeys(t *rapid.T) []string {
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", ".jpg", ".JPG", ".webp", ".png", ".bin", ".", "-", "/a", "/b", "."}), 1, 5).Draw(t, "parts"), "")
	})
	keys := rapid.SliceOfN(name, 0, 12).Draw(t, "keys")
	slices.Sort(keys)
	return slices.DeleteFunc(slices.Compact(keys), func(key string) bool { return strings.HasPrefix(key, "/") })
}

func TestNoTwoResultsMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		taken := make(map[string]string)
		for _, c := range settle(t, drawKeys(t)) {
			output := c.output(rapid.SampledFrom(types).Draw(t, "type"))
			if other, twice := taken[output]; twice {
				t.Fatalf("%q and %q both become %q", other, c.Key, output)
			}
			taken[output] = c.Key
		}
	})
}

// A folder that was called over HTTP has the same names, unless a folder's name
// goes on where a file's extension begins.
func TestNamesAreTheClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := drawKeys(t)
		names := client.NamesFor(keys)
		for _, c := range settle(t, keys) {
			stem, _ := naming.Split(c.Key)
			if slices.ContainsFunc(keys, func(key string) bool {
				return strings.HasPrefix(key, stem+".") && strings.Contains(key[len(stem):], "/")
			}) {
				continue
			}
			contentType := rapid.SampledFrom(types).Draw(t, "type")
			if got, want := c.output(contentType), names.Output(c.Key, contentType); got != want {
				t.Fatalf("%q as %q becomes %q; the client says %q, among %q", c.Key, contentType, got, want, keys)
			}
		}
	})
}

func TestNamesOfOneListing(t *testing.T) {
	var got []string
	for _, c := range settle(t, []string{"a.jpg", "a.png", "b", "b.jpg", "c/d.jpeg", "e.heic", "f.d/x.jpg", "f.jpg"}) {
		got = append(got, c.output("image/webp"))
	}
	want := []string{"a.jpg.webp", "a.png.webp", "b.webp", "b.jpg.webp", "c/d.webp", "e.webp", "f.d/x.webp", "f.jpg.webp"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestAListingOutOfOrderIsRefused(t *testing.T) {
	for _, keys := range [][]string{{"b", "a"}, {"a", "a"}} {
		var names namer
		_, _, _ = names.next(Object{Key: keys[0]})
		if _, _, err := names.next(Object{Key: keys[1]}); err == nil || !strings.Contains(err.Error(), "want the order of keys") {
			t.Errorf("%q: %v", keys, err)
		}
	}
}
