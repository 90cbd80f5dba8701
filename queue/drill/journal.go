package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// journal is what a client or a worker notes, a JSON document a line. A process that
// is killed loses nothing that it has noted: each line is in the kernel when note
// returns.
type journal struct{ file *os.File }

func openJournal(path string) (journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return journal{file}, err
}

// note writes one line, whole: what is appended by many is not mixed.
func (j journal) note(what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// readJournal reads all that was noted of type T. A last line without an end is of a
// process that was killed as it wrote.
func readJournal[T any](path string) ([]T, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if end := bytes.LastIndexByte(text, '\n'); end < len(text)-1 {
		text = text[:end+1]
	}
	var all []T
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var one T
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		all = append(all, one)
	}
	return all, lines.Err()
}

// clock is the time on a clock that all processes of this machine share, and that
// nobody sets: clock_gettime(2), CLOCK_MONOTONIC.
func clock() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // there is no kernel without it
	}
	return time.Duration(now.Nano())
}
