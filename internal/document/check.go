package document

import (
	"errors"
	"fmt"
	"strings"
)

// MostPath bounds a path, in bytes: with MostChanges and MostBytes it keeps
// a Commit, in JSON and with its values in base64, below the 512 KiB that Consul
// takes at once (txn_max_req_len).
const MostPath = 512

// Check says why no store makes these changes, whatever it holds: none, too many
// or too large, a path that is not one or is there twice, a deletion that does
// not say which version it deletes. Every store asks it first, so that all of them
// refuse the same, in the same words.
func Check(changes []Change) error {
	if len(changes) == 0 {
		return errors.New("commit documents: there is no change; name at least one")
	}
	if len(changes) > MostChanges {
		return fmt.Errorf("commit documents: %d changes at once; want at most %d", len(changes), MostChanges)
	}
	bytes, seen := 0, make(map[string]bool, len(changes))
	for _, change := range changes {
		if err := CheckPath(change.Path); err != nil {
			return err
		}
		if seen[change.Path] {
			return fmt.Errorf("commit documents: %s is changed twice; want each path once", change.Path)
		}
		seen[change.Path] = true
		if !change.Delete {
			bytes += len(change.Value)
		} else if change.Version == 0 {
			return fmt.Errorf("commit documents: the deletion of %s is at version 0, which says that there is none; want the version that it deletes", change.Path)
		}
	}
	if bytes > MostBytes {
		return fmt.Errorf("commit documents: the values have %d bytes together, the first is %s; want at most %d", bytes, changes[0].Path, MostBytes)
	}
	return nil
}

// CheckPath says why a path is none. A path is 1 to MostPath bytes: elements of
// ASCII letters, digits, hyphens, underscores and dots, with single slashes between
// them; no element begins with a dot. So it means the same in a URL and in a file.
func CheckPath(path string) error {
	if path == "" || strings.HasSuffix(path, "/") {
		return fmt.Errorf("the document path %q is empty or ends with a slash; want elements with slashes between them", path)
	}
	return CheckPrefix(path)
}

// CheckPrefix says why nothing can begin with a prefix. It is the beginning of
// a path, or empty.
func CheckPrefix(prefix string) error {
	if len(prefix) > MostPath {
		return fmt.Errorf("the document path %.40q... has %d bytes; want at most %d", prefix, len(prefix), MostPath)
	}
	if strings.HasPrefix(prefix, "/") || strings.Contains(prefix, "//") || strings.HasPrefix(prefix, ".") || strings.Contains(prefix, "/.") {
		return fmt.Errorf("the document path %q has an element that is empty or begins with a dot; want elements with single slashes between them", prefix)
	}
	if at := strings.IndexFunc(prefix, unfit); at >= 0 {
		return fmt.Errorf("the document path %q has an unfit character at byte %d; want ASCII letters, digits, hyphens, underscores, dots and slashes", prefix, at)
	}
	return nil
}

// unfit says whether a character may not be in a path. The rest are those that
// newer Consul servers accept in a key, too.
func unfit(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./", r)
}
