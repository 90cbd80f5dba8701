package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// folder is a bucket in a folder, by its path. gocloud.dev's fileblob is not used:
// from a thousand files on its listing loses some, and it does not fsync.
type folder string

// temporarySuffix ends the names of files that are being written, by this package
// and by fileblob; attributesSuffix ends fileblob's own.
const (
	temporarySuffix  = ".tmp"
	attributesSuffix = ".attrs"
)

func (f folder) path(key string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return "", fmt.Errorf("the key %q leaves the folder", key)
	}
	return filepath.Join(string(f), filepath.FromSlash(key)), nil
}

func (f folder) list(ctx context.Context, prefix string, visit func(Object) error) error {
	start, _ := path.Split(prefix) // the folder below which every such key is
	return f.walk(ctx, start, prefix, visit)
}

// walk visits what is in one folder, whose key is empty or ends with a slash.
func (f folder) walk(ctx context.Context, below, prefix string, visit func(Object) error) error {
	entries, err := os.ReadDir(filepath.Join(string(f), filepath.FromSlash(below)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(keyPart(a), keyPart(b)) })
	for _, entry := range entries {
		key := below + keyPart(entry)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir():
			if strings.HasPrefix(key, prefix) || strings.HasPrefix(prefix, key) {
				err = f.walk(ctx, key, prefix, visit)
			}
		case strings.HasPrefix(key, prefix) && !strings.HasSuffix(key, temporarySuffix) && !strings.HasSuffix(key, attributesSuffix):
			err = f.visitFile(entry, key, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keyPart makes the names in a folder sort as the keys that begin with them.
func keyPart(entry fs.DirEntry) string {
	if entry.IsDir() {
		return entry.Name() + "/"
	}
	return entry.Name()
}

func (f folder) visitFile(entry fs.DirEntry, key string, visit func(Object) error) error {
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since the folder was read
	}
	if err != nil {
		return err
	}
	return visit(Object{Key: key, Size: info.Size()})
}

func (f folder) read(_ context.Context, key string, most int64) ([]byte, error) {
	name, err := f.path(key)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return readMost(file, most)
}

// readMost reads to the end, unless that is beyond most bytes.
func readMost(from io.Reader, most int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && int64(len(body)) > most {
		return nil, fmt.Errorf("%w: want at most %d bytes", ErrTooLong, most)
	}
	return body, err
}

// write puts a file in place under its name when all of it is on the disk.
func (f folder) write(_ context.Context, key string, body []byte, onlyNew bool) (err error) {
	name, err := f.path(key)
	if err != nil {
		return err
	}
	parent := filepath.Dir(name)
	if err := f.makeFolder(parent); err != nil {
		return err
	}
	file, err := os.CreateTemp(parent, "*"+temporarySuffix)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone already, if it has been renamed
	_, err = file.Write(body)
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return err
	}
	if onlyNew {
		err = os.Link(file.Name(), name) // unlike a rename, it replaces nothing
		if errors.Is(err, fs.ErrExist) {
			return ErrExists
		}
	} else {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return err
	}
	return syncFolder(parent)
}

// makeFolder makes a folder and those above it, down from the root, and each one's
// entry durable.
func (f folder) makeFolder(name string) error {
	if name == string(f) {
		return nil
	}
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	if err := f.makeFolder(filepath.Dir(name)); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

func (f folder) delete(_ context.Context, key string) error {
	name, err := f.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ErrNotFound
		}
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// syncFolder makes the names in a folder durable.
func syncFolder(name string) error {
	opened, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}
