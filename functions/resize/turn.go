package resize

// turn is one of the eight ways to lay a rectangle on itself (the dihedral group
// D4): mirror left-right if mirror, then turn clockwise by quarters times 90°.
type turn struct {
	quarters int // 0 to 3
	mirror   bool
}

var (
	identity       = turn{}
	mirrorSideways = turn{mirror: true}
	mirrorUpDown   = turn{quarters: 2, mirror: true}
)

// exifTurns is what brings an image stored with EXIF orientation 1 to 8 upright
// (Exif 2.32, tag 274).
var exifTurns = [9]turn{
	1: identity,
	2: mirrorSideways,
	3: {quarters: 2},
	4: mirrorUpDown,
	5: {quarters: 3, mirror: true},
	6: {quarters: 1},
	7: {quarters: 1, mirror: true},
	8: {quarters: 3},
}

// exifTurn takes an orientation out of range as upright, as viewers do.
func exifTurn(orientation int) turn {
	if orientation < 1 || orientation > 8 {
		return identity
	}
	return exifTurns[orientation]
}

// then is t followed by next, as one turn. A mirror behind a rotation is the
// same as the mirror first and the rotation the other way round.
func (t turn) then(next turn) turn {
	quarters := t.quarters
	if next.mirror {
		quarters = 4 - quarters
	}
	return turn{quarters: (quarters + next.quarters) % 4, mirror: t.mirror != next.mirror}
}

// inverse undoes t.
func (t turn) inverse() turn {
	if t.mirror {
		return t // every reflection undoes itself
	}
	return turn{quarters: (4 - t.quarters) % 4}
}

// size is what an image of size s has after t.
func (t turn) size(s size) size {
	if t.quarters%2 == 1 {
		return size{s.height, s.width}
	}
	return s
}

// area is where a part of an image of size s is after t.
func (t turn) area(a area, s size) area {
	if t.mirror {
		a.left = s.width - a.left - a.width
	}
	for range t.quarters {
		a = area{left: s.height - a.top - a.height, top: a.left, size: size{a.height, a.width}}
		s = size{s.height, s.width}
	}
	return a
}
