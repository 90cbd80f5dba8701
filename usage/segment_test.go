package usage

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
)

// segmentOf is a segment's bytes with these records: number 1 of gw-1, not sealed,
// without room behind the last.
func segmentOf(t testing.TB, all []lightcone.UsageRecord) []byte {
	t.Helper()
	s := &segment{seed: seedOf("gw-1", 1), mapped: make([]byte, headerLength+len(all)*frameSize(mostBody)), end: headerLength}
	copy(s.mapped, "lightusg")
	for i := range all {
		length, err := check(&all[i])
		if err != nil {
			t.Fatal(err)
		}
		s.append(&all[i], length)
	}
	return s.mapped[:s.end]
}

// sealedOf is the same, sealed.
func sealedOf(t testing.TB, all []lightcone.UsageRecord) []byte {
	t.Helper()
	data := segmentOf(t, all)
	writeSeal(data, seedOf("gw-1", 1), uint64(len(all)), uint64(len(data)))
	return data
}

// read is what a scanner finds, and the damaged records that it counts.
func read(data []byte) (found []lightcone.UsageRecord, torn int64) {
	found = []lightcone.UsageRecord{}
	s := newScanner(data, seedOf("gw-1", 1))
	for s.scan() {
		torn += s.torn
		b := s.body
		found = append(found, Row{
			Call: b.call(), Tenant: string(b.tenant()), Function: string(b.function()), Outcome: b.outcome(), Start: b.start(),
			Duration: b.number(24), CPU: b.number(32), BytesIn: b.number(40), BytesOut: b.number(48),
		}.Record())
	}
	return found, torn + s.torn
}

// frameBounds are where each of the records' frames begins, and where the last ends.
func frameBounds(data []byte) []int {
	bounds := []int{headerLength}
	for s := newScanner(data, seedOf("gw-1", 1)); s.scan(); {
		bounds = append(bounds, s.at)
	}
	return bounds
}

func TestASegmentCutAtAnyByte(t *testing.T) {
	all := records(0, 6)
	for _, sealed := range []bool{false, true} {
		data := segmentOf(t, all)
		if sealed {
			data = sealedOf(t, all)
		}
		bounds := frameBounds(data)
		for cut := range len(data) + 1 {
			whole := 0
			for whole < len(all) && bounds[whole]+frameHead+bodyFixed+len(all[whole].Tenant)+len(all[whole].Function) <= cut {
				whole++
			}
			want := int64(0)
			switch {
			case cut >= headerLength && sealed:
				want = int64(len(all) - whole)
			case cut > 0 && cut < headerLength || whole < len(all) && cut > bounds[whole]:
				want = 1
			}
			// What the file system gives in place of what was lost: nothing, or zeros.
			for _, behind := range []int{0, 64, 1000} {
				cutData := append(bytes.Clone(data[:cut]), make([]byte, behind)...)
				if behind > 0 && (cut < headerLength || sealed) {
					continue
				}
				found, torn := read(cutData)
				if !slices.Equal(all[:whole], found) || torn != want {
					t.Fatalf("sealed %v, cut at %d, %d zeros behind: %d torn, want %d: %s", sealed, cut, behind, torn, want, cmp.Diff(all[:whole], found))
				}
			}
		}
	}
}

func TestASegmentWithAnyByteFlipped(t *testing.T) {
	all := records(0, 6)
	for _, sealed := range []bool{false, true} {
		data := segmentOf(t, all)
		if sealed {
			data = sealedOf(t, all)
		}
		bounds := frameBounds(data)
		for at := range data {
			for bit := range 8 {
				flipped := bytes.Clone(data)
				flipped[at] ^= 1 << bit
				want, wantTorn := all, int64(0)
				for i := range all {
					end := bounds[i] + frameHead + bodyFixed + len(all[i].Tenant) + len(all[i].Function)
					if at >= bounds[i] && at < end { // the frame; behind it is padding, which says nothing
						want, wantTorn = append(append([]lightcone.UsageRecord{}, all[:i]...), all[i+1:]...), 1
					}
				}
				found, torn := read(flipped)
				if !slices.Equal(want, found) || torn != wantTorn {
					t.Fatalf("sealed %v, bit %d of byte %d: %d torn, want %d: %s", sealed, bit, at, torn, wantTorn, cmp.Diff(want, found))
				}
			}
		}
	}
}

// Pages that a lost machine had not written read as zeros, in whatever order it
// wrote them.
func TestASegmentWithPagesMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := records(0, rapid.IntRange(1, 60).Draw(t, "records"))
		data := segmentOf(new(testing.T), all)
		bounds := frameBounds(data)
		lost := bytes.Clone(data)
		const page = 256
		for from := headerLength; from < len(lost); from += page {
			if rapid.Bool().Draw(t, "lost") {
				clear(lost[from:min(from+page, len(lost))])
			}
		}
		want, gone, trailing := []lightcone.UsageRecord{}, int64(0), int64(0)
		tail := false
		for i := range all {
			if bytes.Equal(data[bounds[i]:bounds[i+1]], lost[bounds[i]:bounds[i+1]]) {
				want, gone, trailing, tail = append(want, all[i]), gone+trailing, 0, false
				continue
			}
			trailing++
			tail = tail || len(bytes.Trim(lost[bounds[i]:bounds[i+1]], "\x00")) > 0
		}
		if tail {
			gone++ // at least one
		}
		found, torn := read(lost)
		if diff := cmp.Diff(want, found); diff != "" || torn != gone {
			t.Fatalf("%d torn, want %d: %s", torn, gone, diff)
		}
	})
}

// What another segment or node wrote passes for no record, wherever it lies.
func TestAnotherSegmentsFramesAreNoRecords(t *testing.T) {
	data := segmentOf(t, records(0, 5))
	for _, seed := range []uint32{seedOf("gw-2", 1), seedOf("gw-1", 2), 0, crc32.Checksum([]byte("gw-1"), castagnoli)} {
		if s := newScanner(data, seed); s.scan() || s.torn != 1 {
			t.Errorf("seed %x: a record, or %d torn, want 1", seed, s.torn)
		}
	}
}

func TestRecordsThatCannotBeKept(t *testing.T) {
	l := begin(t, first(configFor(t, t.TempDir())))
	for what, spoil := range map[string]func(*lightcone.UsageRecord){
		"no tenant":            func(r *lightcone.UsageRecord) { r.Tenant = "" },
		"a long function":      func(r *lightcone.UsageRecord) { r.Function = lightcone.FunctionName(bytes.Repeat([]byte("f"), 64)) },
		"a tenant not to name": func(r *lightcone.UsageRecord) { r.Tenant = "Acme" },
		"no outcome":           func(r *lightcone.UsageRecord) { r.Outcome = "" },
		"less than no time":    func(r *lightcone.UsageRecord) { r.Used.CPU = -1 },
		"no start":             func(r *lightcone.UsageRecord) { r.Start = r.Start.AddDate(-2026, 0, 0) },
	} {
		r := record(1)
		spoil(&r)
		if err := l.Append(&r); err == nil {
			t.Errorf("%s: kept", what)
		}
	}
}

func first(config Config, _ any) Config { return config }

// FuzzScanner: whatever lies in a segment's file, what is found would be written
// the same again, and the count of damaged records is none that had no room.
func FuzzScanner(f *testing.F) {
	f.Add(segmentOf(f, records(0, 3)))
	f.Add(sealedOf(f, records(0, 3)))
	f.Add(sealedOf(f, records(0, 3))[:300])
	f.Add([]byte("lightusg"))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, torn := read(data)
		if most := int64(len(data)/frameSize(bodyFixed)) + 1; torn < 0 || torn > most && newScanner(data, seedOf("gw-1", 1)).sealed < 0 {
			t.Fatalf("%d torn in %d bytes", torn, len(data))
		}
		again, lost := read(segmentOf(t, found))
		if diff := cmp.Diff(found, again); diff != "" || lost != 0 {
			t.Fatal(lost, diff)
		}
	})
}

func TestASegmentNeedsItsRoom(t *testing.T) {
	dir := t.TempDir()
	if _, err := createSegment(dir, "gw-1", 1, 1<<60); err == nil {
		t.Error("a segment of an exabyte")
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Error(fmt.Sprint("left behind: ", left), err)
	}
}
