package bulk

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEveryKeyIsInExactlyOneShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.String().Draw(t, "key")
		shares := rapid.IntRange(1, 1000).Draw(t, "shares")
		owners := 0
		for share := range shares {
			if ShareOf(key, shares) == share {
				owners++
			}
		}
		if owners != 1 {
			t.Fatalf("%q has %d owners among %d shares", key, owners, shares)
		}
	})
}

// A share that is started again by a later build must find its own objects.
func TestSharesStayTheSame(t *testing.T) {
	for key, want := range map[string]int{"": 52, "a.jpg": 26, "2024/summer/IMG_0001.jpg": 83} {
		if got := ShareOf(key, 100); got != want {
			t.Errorf("%q is in share %d of 100, want %d", key, got, want)
		}
	}
}

func TestSharesAreAlikeInSize(t *testing.T) {
	const keys, shares = 20_000, 7
	var sizes [shares]int
	for i := range keys {
		sizes[ShareOf(time.Duration(i).String()+".jpg", shares)]++
	}
	for share, size := range sizes {
		if deviation := math.Abs(float64(size)/(keys/shares) - 1); deviation > 0.06 { // three standard deviations
			t.Errorf("share %d has %d of %d keys", share, size, keys)
		}
	}
}

func TestFingerprintsTellWorkApart(t *testing.T) {
	now := time.Unix(1700000000, 5)
	plain := candidate{Object: Object{Key: "a.jpg", Size: 7, Modified: now}}
	base := work{function: "resize", query: "width=300"}
	changed := func(change func(*candidate)) candidate {
		c := plain
		change(&c)
		return c
	}
	seen := map[fingerprint]string{base.fingerprint(plain): "the same"}
	for what, f := range map[string]fingerprint{
		"key":       base.fingerprint(changed(func(c *candidate) { c.Key = "b.jpg" })),
		"size":      base.fingerprint(changed(func(c *candidate) { c.Size++ })),
		"time":      base.fingerprint(changed(func(c *candidate) { c.Modified = now.Add(1) })),
		"taken":     base.fingerprint(changed(func(c *candidate) { c.taken = true })),
		"crowded":   base.fingerprint(changed(func(c *candidate) { c.crowded = true })),
		"function":  work{function: "echo", query: "width=300"}.fingerprint(plain),
		"parameter": work{function: "resize", query: "width=301"}.fingerprint(plain),
	} {
		if other, twice := seen[f]; twice {
			t.Errorf("another %s has the fingerprint of another %s", what, other)
		}
		seen[f] = what
		if back, ok := parseFingerprint(f.String()); !ok || back != f {
			t.Errorf("%v reads back as %v", f, back)
		}
	}
	for _, text := range []string{"", "00", "zz" + plain.Key, base.fingerprint(plain).String() + "00"} {
		if _, ok := parseFingerprint(text); ok {
			t.Errorf("%q reads as a fingerprint", text)
		}
	}
}

func TestJobNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"photos": true, "resize-bulk/dispatch-1700000000-1a2b3c4d": true, "v1.2_x": true,
		"": false, "/a": false, "a/": false, "a//b": false, "../a": false, "a/../b": false, ".a": false, "a b": false, "a\n": false,
	} {
		if err := ValidateJob(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestJournalsAreFoundAgain(t *testing.T) {
	key := journalKey("a/b", 3, 12, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 7)
	if share, shares, is := isJournal("a/b", key); !is || share != 3 || shares != 12 {
		t.Errorf("%s is of share %d of %d (%v)", key, share, shares, is)
	}
	for _, other := range []string{progressKey("a/b", 3), FailuresKey("a/b", 3), journalKey("a", 3, 12, "x", 0), ".bulk/a/b/share-3-of-x-y.ndjson"} {
		if _, _, is := isJournal("a/b", other); is {
			t.Errorf("%s passes for a journal", other)
		}
	}
	if _, _, is := isJournal("a", key); is {
		t.Errorf("the job a takes %s for its own", key)
	}
}
