package usage

import (
	"encoding/binary"
	"hash/crc32"
)

// scanner goes through a segment's records, as a bufio.Scanner goes through lines:
// exactly those whose checksum fits. It guesses nothing: what is between two valid
// frames is known by their indexes, and what is behind the last one by the seal, or
// else counts as one if it is not all zeros.
type scanner struct {
	data   []byte
	seed   uint32
	at     int    // where the next frame would be
	next   uint32 // the index it would have
	sealed int64  // records by the seal; -1 without one

	body body  // the record found, in data
	torn int64 // records damaged since the one before; after the last scan, at the end
}

func newScanner(data []byte, seed uint32) *scanner {
	s := &scanner{data: data, seed: seed, at: headerLength, sealed: -1}
	if count, end, ok := readSeal(data, seed); ok {
		s.sealed = int64(count)
		s.data = data[:min(uint64(len(data)), end)]
	}
	return s
}

// scan moves to the next record and says whether there is one.
func (s *scanner) scan() bool {
	s.torn = 0
	dirty := len(s.data) > 0 && len(s.data) < headerLength // even the header is cut short
	for at := s.at; at+frameHead <= len(s.data); at += 8 {
		found, index := s.frame(at)
		if found != nil {
			s.torn = int64(index - s.next)
			s.body, s.at, s.next = found, at+frameSize(len(found)), index+1
			return true
		}
		dirty = dirty || binary.LittleEndian.Uint64(s.data[at:]) != 0
	}
	for at := max(s.at, len(s.data)&^7-8); at < len(s.data); at++ {
		dirty = dirty || s.data[at] != 0 // behind the last place for a frame's head
	}
	switch {
	case s.sealed >= 0:
		s.torn = max(0, s.sealed-int64(s.next))
	case dirty:
		s.torn = 1
	}
	s.body, s.at = nil, len(s.data)
	return false
}

// frame is the body of the frame at a place, and its index; nil if there is no
// valid one that could come next.
func (s *scanner) frame(at int) (body, uint32) {
	head := s.data[at : at+frameHead]
	length := int(binary.LittleEndian.Uint32(head))
	if length < bodyFixed || length > mostBody || at+frameHead+length > len(s.data) {
		return nil, 0
	}
	index := binary.LittleEndian.Uint32(head[8:])
	most := int64(len(s.data)) / int64(frameSize(bodyFixed)) // more frames have no room
	if index < s.next || int64(index) > most {
		return nil, 0
	}
	found := body(s.data[at+frameHead : at+frameHead+length : at+frameHead+length])
	if sumOf(head, found, s.seed) != binary.LittleEndian.Uint32(head[4:]) || !found.valid() {
		return nil, 0
	}
	return found, index
}

// writeSeal notes in the header how many records there are and where they end.
func writeSeal(header []byte, seed uint32, count, end uint64) {
	binary.LittleEndian.PutUint64(header[8:], count)
	binary.LittleEndian.PutUint64(header[16:], end)
	binary.LittleEndian.PutUint32(header[24:], crc32.Update(seed, castagnoli, header[8:24]))
}

// readSeal reads what writeSeal wrote; ok is false if there is no whole seal.
func readSeal(data []byte, seed uint32) (count, end uint64, ok bool) {
	if len(data) < headerLength {
		return 0, 0, false
	}
	count, end = binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:])
	ok = end >= headerLength && crc32.Update(seed, castagnoli, data[8:24]) == binary.LittleEndian.Uint32(data[24:])
	return count, end, ok
}

// hourCount is what a segment has of an hour.
type hourCount struct{ rows, torn int64 }

// countHours counts a segment's records by hour, in hours since 1970, in the order
// of their first record. Damaged ones count in the hour of the record before them, at the
// start in that of the first; where there is none at all, in the hour given.
func countHours(data []byte, seed uint32, without int64) (hours []int64, counts map[int64]hourCount) {
	counts = make(map[int64]hourCount)
	add := func(hour, rows, torn int64) {
		c, known := counts[hour]
		if rows+torn == 0 {
			return
		}
		if !known {
			hours = append(hours, hour)
		}
		counts[hour] = hourCount{c.rows + rows, c.torn + torn}
	}
	last, any := without, false
	s := newScanner(data, seed)
	for s.scan() {
		hour := s.body.hour()
		if !any {
			last, any = hour, true
		}
		add(last, 0, s.torn)
		add(hour, 1, 0)
		last = hour
	}
	add(last, 0, s.torn)
	return hours, counts
}
