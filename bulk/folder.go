package bulk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attributesSuffix ends the names that fileblob keeps for itself, whether it
// writes attributes or not: it can neither read nor write others.
const attributesSuffix = ".attrs"

// walk lists a folder. fileblob's own listing is not used: from a thousand files
// on it loses those whose key sorts before the page it has reached (a-b after a
// folder a, in v0.47.0), it walks the whole tree once a page, and it passes over
// folders that it cannot read.
func (l *Location) walk(ctx context.Context, prefix string, visit func(Object) error) error {
	start, _ := path.Split(prefix) // the folder below which every such key is
	return l.walkFolder(ctx, start, prefix, visit)
}

// walkFolder visits what is in one folder, whose key is empty or ends with a
// slash. Its memory is the names of the folders on the way.
func (l *Location) walkFolder(ctx context.Context, folder, prefix string, visit func(Object) error) error {
	entries, err := os.ReadDir(filepath.Join(l.folder, filepath.FromSlash(folder)))
	if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) && folder != "" {
		return nil // a prefix without objects, or gone since its parent was read
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", l, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(keyPart(a), keyPart(b)) })
	for _, entry := range entries {
		key := folder + keyPart(entry)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir():
			if strings.HasPrefix(key, prefix) || strings.HasPrefix(prefix, key) {
				err = l.walkFolder(ctx, key, prefix, visit)
			}
		case strings.HasPrefix(key, prefix) && !strings.HasSuffix(key, attributesSuffix) && !isTemporary(key):
			err = l.visitFile(entry, key, visit)
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

// visitFile visits a regular file, or what a symbolic link to one names.
func (l *Location) visitFile(entry fs.DirEntry, key string, visit func(Object) error) error {
	info, err := os.Stat(filepath.Join(l.folder, filepath.FromSlash(key)))
	switch {
	case errors.Is(err, fs.ErrNotExist) && entry.Type().IsRegular():
		return nil // gone since the folder was read
	case err != nil && entry.Type()&fs.ModeSymlink != 0:
		return nil // it leads nowhere
	case err != nil:
		return fmt.Errorf("list %s: %w", l, err)
	case !info.Mode().IsRegular():
		return nil
	}
	return visit(Object{Key: key, Size: info.Size(), Modified: info.ModTime()})
}

// temporaryName is what fileblob writes before it renames: the name, the time in
// nanoseconds in hexadecimal, and .tmp.
var temporaryName = regexp.MustCompile(`\.([0-9a-f]{16})\.tmp$`)

func isTemporary(key string) bool { return temporaryName.MatchString(key) }

// madeAt is when a temporary file was made, by its name.
func madeAt(name string) time.Time {
	nanoseconds, _ := strconv.ParseInt(temporaryName.FindStringSubmatch(name)[1], 16, 64)
	return time.Unix(0, nanoseconds)
}

// markAlive locks a temporary file for as long as its writer lives: flock(2)
// goes with the process.
func markAlive(as func(any) bool) error {
	var file *os.File
	if !as(&file) {
		return nil // another driver
	}
	// A file system without locks gets no sweep, and works otherwise.
	_ = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return nil
}

// Sweep removes the temporary files of writers that were killed, made before
// the given time. A bucket keeps none.
func (l *Location) Sweep(ctx context.Context, before time.Time) (removed int, err error) {
	if l.folder == "" {
		return 0, nil
	}
	err = filepath.WalkDir(l.folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if entry.Type().IsRegular() && isTemporary(name) && madeAt(name).Before(before) && abandoned(name) && os.Remove(name) == nil {
			removed++
		}
		return nil
	})
	return removed, err
}

// abandoned says whether no living writer holds the file.
func abandoned(name string) bool {
	file, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
