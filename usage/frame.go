package usage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"lightcone"
)

// A segment is a header of headerLength bytes and then frames, each at a multiple
// of 8 bytes, and after them zeros. All numbers are little-endian.
//
//	frame:  length of the body uint32 | CRC-32C uint32 | index in the segment uint32 | body | zeros up to a multiple of 8
//	body:   call id 16 | start, Unix microseconds int64 | duration ns int64 | CPU ns int64 | bytes in int64 | bytes out int64 |
//	        outcome 1 | length of the tenant 1 | length of the function 1 | tenant | function
//	header: "lightusg" | when sealed: number of records uint64 | end of the last frame uint64 | CRC-32C uint32 of both | zeros
//
// Each CRC also covers the node and the segment's number, so that nothing from
// another file passes for a record; a frame's covers its length and index, too.
const (
	headerLength = 64
	frameHead    = 12
	bodyFixed    = 59
	mostName     = 63
	mostBody     = bodyFixed + 2*mostName
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// outcomes are the outcomes by their number in a body.
var outcomes = [...]lightcone.Outcome{1: lightcone.OutcomeAnswered, 2: lightcone.OutcomeFailed, 3: lightcone.OutcomeTimeout}

// seedOf is what a segment's checksums start from.
func seedOf(node string, sequence uint64) uint32 {
	return crc32.Checksum(binary.LittleEndian.AppendUint64([]byte(node), sequence), castagnoli)
}

// Records start in these years, so that each has an hour in an object's name.
var earliest, latest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// check says whether a record can be kept, and how long its body is.
func check(r *lightcone.UsageRecord) (length int, err error) {
	start := r.Start.UnixMicro()
	if !isName(string(r.Tenant)) || !isName(string(r.Function)) || codeOf(r.Outcome) == 0 || r.Used.CPU < 0 || r.Used.BytesIn < 0 || r.Used.BytesOut < 0 ||
		r.Duration < 0 || start < earliest || start >= latest {
		return 0, fmt.Errorf("usage: record of call %s: %+v: want names of 1 to 63 lower-case letters, digits and hyphens that start with a letter, a known outcome, no negative number, and a start from 2000 to 2199", r.Call, *r)
	}
	return bodyFixed + len(r.Tenant) + len(r.Function), nil
}

// codeOf is an outcome's number; 0 for one that is not known.
func codeOf(outcome lightcone.Outcome) byte {
	for i := 1; i < len(outcomes); i++ {
		if outcomes[i] == outcome {
			return byte(i)
		}
	}
	return 0
}

// encodeFrame writes the frame of a record that check has passed, of length bytes of
// body, and returns the hour that the record started in.
func encodeFrame(frame []byte, r *lightcone.UsageRecord, length int, index, seed uint32) (hour int64) {
	b := frame[frameHead : frameHead+length]
	copy(b, r.Call[:])
	binary.LittleEndian.PutUint64(b[16:], uint64(r.Start.UnixMicro()))
	binary.LittleEndian.PutUint64(b[24:], uint64(r.Duration))
	binary.LittleEndian.PutUint64(b[32:], uint64(r.Used.CPU))
	binary.LittleEndian.PutUint64(b[40:], uint64(r.Used.BytesIn))
	binary.LittleEndian.PutUint64(b[48:], uint64(r.Used.BytesOut))
	b[56], b[57], b[58] = codeOf(r.Outcome), byte(len(r.Tenant)), byte(len(r.Function))
	copy(b[bodyFixed:], r.Tenant)
	copy(b[bodyFixed+len(r.Tenant):], r.Function)
	binary.LittleEndian.PutUint32(frame[0:], uint32(length))
	binary.LittleEndian.PutUint32(frame[8:], index)
	binary.LittleEndian.PutUint32(frame[4:], sumOf(frame, b, seed))
	return body(b).hour()
}

// sumOf is the CRC that belongs into a frame's head.
func sumOf(head []byte, b body, seed uint32) uint32 {
	sum := crc32.Update(seed, castagnoli, b)
	sum = crc32.Update(sum, castagnoli, head[0:4])
	return crc32.Update(sum, castagnoli, head[8:12])
}

// isName is the rule of lightcone.TenantID, without a regular expression's cost.
func isName(name string) bool {
	if len(name) < 1 || len(name) > mostName || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := 1; i < len(name); i++ {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// frameSize is the room that a frame with a body of this length takes.
func frameSize(bodyLength int) int { return (frameHead + bodyLength + 7) &^ 7 }

// body is a record as a segment holds it. Its methods are only for one that a
// scanner has found valid.
type body []byte

func (b body) number(at int) int64 { return int64(binary.LittleEndian.Uint64(b[at:])) }
func (b body) call() (id lightcone.CallID) {
	copy(id[:], b)
	return id
}
func (b body) start() int64     { return b.number(16) } // Unix microseconds
func (b body) hour() int64      { return b.start() / int64(time.Hour/time.Microsecond) }
func (b body) outcome() string  { return string(outcomes[b[56]]) }
func (b body) tenant() []byte   { return b[bodyFixed : bodyFixed+int(b[57])] }
func (b body) function() []byte { return b[bodyFixed+int(b[57]):] }

// valid says whether the body can be a record's: its checksum already fits.
func (b body) valid() bool {
	return len(b) >= bodyFixed && len(b) == bodyFixed+int(b[57])+int(b[58]) && b[56] >= 1 && int(b[56]) < len(outcomes) &&
		isName(string(b.tenant())) && isName(string(b.function())) && b.start() >= earliest && b.start() < latest &&
		b.number(24) >= 0 && b.number(32) >= 0 && b.number(40) >= 0 && b.number(48) >= 0
}
