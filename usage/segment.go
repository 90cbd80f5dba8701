package usage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lightcone"
)

// segmentPattern is what a segment's file is called: its number.
var segmentPattern = regexp.MustCompile(`^([0-9]{20})\.segment$`)

func segmentPath(dir string, sequence uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.segment", sequence))
}

// parseSegment is the number in a segment file's name.
func parseSegment(name string) (uint64, bool) {
	parts := segmentPattern.FindStringSubmatch(name)
	if parts == nil {
		return 0, false
	}
	sequence, err := strconv.ParseUint(parts[1], 10, 64)
	return sequence, err == nil
}

// segment is a file that is being written, through a shared mapping: a store into
// it is the kernel's at once, without a system call, and survives the process. Its
// blocks are allocated beforehand, so that a full disk is an error here and not a
// SIGBUS there.
type segment struct {
	sequence uint64
	seed     uint32
	file     *os.File
	mapped   []byte
	end      int // where the next frame goes
	count    uint32
	begun    time.Time // when the first record came
	hours    []int64   // in which records started, hours since 1970
}

// usualHours is how many hours a segment's records start in at most, but for queued
// calls that come late by the dozen: then its list grows.
const usualHours = 16

// createSegment makes the file and its mapping, of size bytes.
func createSegment(dir, node string, sequence uint64, size int64) (s *segment, err error) {
	file, err := os.OpenFile(segmentPath(dir, sequence), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, fmt.Errorf("make a segment: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("make segment %s of %d bytes: %w", file.Name(), size, err)
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	if err := allocate(file, size); err != nil {
		return nil, err
	}
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	copy(mapped, "lightusg")
	if err := syncPath(dir); err != nil {
		return nil, errors.Join(err, unix.Munmap(mapped))
	}
	return &segment{sequence: sequence, seed: seedOf(node, sequence), file: file, mapped: mapped, end: headerLength, hours: make([]int64, 0, usualHours)}, nil
}

// allocate gives the file its blocks, by writing them where the file system knows
// no fallocate(2).
func allocate(file *os.File, size int64) error {
	err := unix.Fallocate(int(file.Fd()), 0, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeros := make([]byte, 1<<16)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := file.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// room is how many bytes of frames still fit.
func (s *segment) room() int { return len(s.mapped) - s.end }

// append writes the frame of a record that check has passed, and for which there
// is room.
func (s *segment) append(r *lightcone.UsageRecord, length int) {
	hour := encodeFrame(s.mapped[s.end:], r, length, s.count, s.seed)
	if last := len(s.hours) - 1; last < 0 || s.hours[last] != hour && !slices.Contains(s.hours, hour) {
		s.hours = append(s.hours, hour)
	}
	s.end += frameSize(length)
	s.count++
}

// seal brings the records to the disk, then the note that they are all, and cuts
// the file to its length. It can be repeated after an error.
func (s *segment) seal() error {
	if err := s.file.Sync(); err != nil {
		return err
	}
	if s.mapped != nil {
		writeSeal(s.mapped, s.seed, uint64(s.count), uint64(s.end))
		if err := unix.Munmap(s.mapped); err != nil {
			return err
		}
		s.mapped = nil
	}
	if err := s.file.Truncate(int64(s.end)); err != nil {
		return err
	}
	return s.file.Sync()
}

// drop lets go of the file without a word in it.
func (s *segment) drop() error {
	err := s.file.Close()
	if s.mapped != nil {
		err = errors.Join(err, unix.Munmap(s.mapped))
	}
	return err
}

// sealedSegment is a segment that nobody writes to any more.
type sealedSegment struct {
	sequence uint64
	bytes    int64
	hours    []int64 // in which its records started, hours since 1970
	sealed   time.Time
}
