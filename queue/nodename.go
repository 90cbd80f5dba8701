package queue

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// randomText is 26 characters that nobody guesses.
func randomText() string { return strings.ToLower(rand.Text()) }

// identify is the name of the node whose disk dir is. A seat that comes with an empty
// folder is a new node with a new name: under the old one it would vote for what the
// old one knew to be otherwise.
func identify(dir, seat string) (string, error) {
	file := filepath.Join(dir, "node")
	switch text, err := os.ReadFile(file); {
	case err == nil:
		name := strings.TrimSpace(string(text))
		if seatOf(name) != seat {
			return "", fmt.Errorf("%s is of the node %q, which has not the seat %q: give each seat a folder of its own", dir, name, seat)
		}
		return name, nil
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s has data, and not the file that says whose: empty it, and the others will fill it (%w)", dir, errors.Join(err, os.ErrNotExist))
	}
	name := seat + "-" + randomText()[:10]
	return name, writeSynced(file, name+"\n")
}

// seatOf is the seat of the node of that name; "" when it is no node's.
func seatOf(name string) string {
	dash := strings.LastIndexByte(name, '-')
	if dash < 0 {
		return ""
	}
	return name[:dash]
}

// writeSynced writes a file that is there, whole, after a power cut.
func writeSynced(name, text string) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(dir, ".node-*")
	if err != nil {
		return err
	}
	_, err = temporary.WriteString(text)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
