package resize

import (
	"testing"

	"pgregory.net/rapid"
)

func anyTurn() *rapid.Generator[turn] {
	return rapid.Custom(func(t *rapid.T) turn {
		return turn{rapid.IntRange(0, 3).Draw(t, "quarters"), rapid.Bool().Draw(t, "mirror")}
	})
}

// moved is where the pixel at x, y of an image of size s goes.
func moved(t turn, x, y int, s size) (int, int) {
	a := t.area(area{x, y, size{1, 1}}, s)
	return a.left, a.top
}

func TestTurnsAreTheGroupD4(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyTurn().Draw(t, "a"), anyTurn().Draw(t, "b"), anyTurn().Draw(t, "c")
		if got := a.then(b); got.quarters < 0 || got.quarters > 3 {
			t.Fatalf("%v then %v = %v is not one of the eight", a, b, got)
		}
		if a.then(b).then(c) != a.then(b.then(c)) {
			t.Fatalf("not associative: %v, %v, %v", a, b, c)
		}
		if a.then(a.inverse()) != identity || a.inverse().then(a) != identity {
			t.Fatalf("%v is not undone by %v", a, a.inverse())
		}
		if a.then(identity) != a || identity.then(a) != a {
			t.Fatalf("the identity changes %v", a)
		}
	})
}

func TestATurnOfTurnsMovesPixelsAsBothDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTurn().Draw(t, "a"), anyTurn().Draw(t, "b")
		s := size{rapid.IntRange(1, 9).Draw(t, "width"), rapid.IntRange(1, 9).Draw(t, "height")}
		x, y := rapid.IntRange(0, s.width-1).Draw(t, "x"), rapid.IntRange(0, s.height-1).Draw(t, "y")

		midX, midY := moved(a, x, y, s)
		wantX, wantY := moved(b, midX, midY, a.size(s))
		if gotX, gotY := moved(a.then(b), x, y, s); gotX != wantX || gotY != wantY {
			t.Fatalf("(%d,%d) of %v under %v then %v goes to (%d,%d), together (%d,%d)", x, y, s, a, b, wantX, wantY, gotX, gotY)
		}
	})
}

func TestTheEightTurnsDiffer(t *testing.T) {
	seen := map[[4]int]turn{}
	for orientation := 1; orientation <= 8; orientation++ {
		turned := exifTurn(orientation)
		x0, y0 := moved(turned, 0, 0, size{3, 2})
		x1, y1 := moved(turned, 2, 0, size{3, 2})
		key := [4]int{x0, y0, x1, y1}
		if other, taken := seen[key]; taken {
			t.Errorf("%v and %v do the same", turned, other)
		}
		seen[key] = turned
	}
}

func TestTurnsByExample(t *testing.T) {
	for _, test := range []struct {
		name         string
		turn         turn
		wantX, wantY int // of the top left pixel of a 4 x 3 image
	}{
		{"identity", identity, 0, 0},
		{"mirror sideways", mirrorSideways, 3, 0},
		{"mirror up-down", mirrorUpDown, 0, 2},
		{"clockwise", turn{quarters: 1}, 2, 0},
		{"half", turn{quarters: 2}, 3, 2},
		{"counter-clockwise", turn{quarters: 3}, 0, 3},
		{"transpose (EXIF 5)", exifTurn(5), 0, 0},
		{"transverse (EXIF 7)", exifTurn(7), 2, 3},
		{"EXIF out of range", exifTurn(9), 0, 0},
		{"EXIF 0", exifTurn(0), 0, 0},
	} {
		if x, y := moved(test.turn, 0, 0, size{4, 3}); x != test.wantX || y != test.wantY {
			t.Errorf("%s: the top left pixel goes to (%d,%d), want (%d,%d)", test.name, x, y, test.wantX, test.wantY)
		}
	}
}
