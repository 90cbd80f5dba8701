package client

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// temporaryPrefix starts the names of outputs that are still being written.
// A folder's walk leaves such files alone.
const temporaryPrefix = ".lightcone-"

// FileInput is the content of a regular file, read anew for every attempt.
func FileInput(name string) (Input, error) {
	file, err := os.Open(name)
	if err != nil {
		return Input{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Input{}, err
	}
	if !info.Mode().IsRegular() {
		return Input{}, fmt.Errorf("%s is not a regular file; give - to read standard input", name)
	}
	start := make([]byte, sniffLength)
	n, err := io.ReadFull(file, start)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return Input{}, err
	}
	return Input{
		ContentType: http.DetectContentType(start[:n]),
		Size:        info.Size(),
		Open:        func() (io.ReadCloser, error) { return os.Open(name) },
	}, nil
}

// sniffLength is what http.DetectContentType looks at.
const sniffLength = 512

// BytesInput is data that is in memory already.
func BytesInput(data []byte) Input {
	return Input{
		ContentType: http.DetectContentType(data),
		Size:        int64(len(data)),
		Open:        func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// listFiles are the regular files under root, as slash-separated paths below
// it, sorted. The folder except (absolute; may be empty) is left out: a
// job's outputs are not its inputs.
func listFiles(root, except string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if absolute, err := filepath.Abs(name); err == nil && absolute == except {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), temporaryPrefix) {
			return nil
		}
		below, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		found = append(found, filepath.ToSlash(below))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files in %s: %w", root, err)
	}
	slices.Sort(found)
	return found, nil
}

// WriteFile puts everything from content into the file called name, which
// appears whole or not at all: written beside, then renamed. Folders on the way
// are made. What exists and is no regular file (a pipe, a device) is written to
// as it is.
func WriteFile(name string, content io.Reader) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // the file a link points to is replaced, not the link
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return writeThrough(name, content)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(name), temporaryPrefix+rand.Text())
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(temporary, name)
	}
	if err != nil {
		_ = os.Remove(temporary) // the first error is the one to tell
	}
	return err
}

func writeThrough(name string, content io.Reader) error {
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
