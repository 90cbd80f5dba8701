package bulk

import (
	"context"
	"errors"
	"time"
)

// Object is what a listing says of one object.
type Object struct {
	Key      string // slash-separated, below the store's root
	Size     int64  // bytes
	Modified time.Time
}

// Store is a folder or bucket prefix, as a share needs it. Every method has its
// own deadline, and may be called from many goroutines.
type Store interface {
	// List visits every object whose key starts with prefix, in the bytewise order
	// of keys, until visit fails. It may run again from the start after an error.
	List(ctx context.Context, prefix string, visit func(Object) error) error

	// Read appends an object's bytes to into. Its errors are ErrNotFound,
	// ErrTooLong if there are more than most, and whatever the storage met.
	Read(ctx context.Context, key string, most int64, into []byte) ([]byte, error)

	// Write makes or replaces an object, whole or not at all.
	Write(ctx context.Context, key, contentType string, body []byte) error

	// Size is an object's length in bytes, or ErrNotFound.
	Size(ctx context.Context, key string) (int64, error)
}

// Sweeper is a Store in which a killed writer may leave something behind.
type Sweeper interface {
	// Sweep removes what was left unfinished before the given time, and says how much.
	Sweep(ctx context.Context, before time.Time) (removed int, err error)
}

// What a Store says of one object rather than of the storage.
var (
	ErrNotFound = errors.New("there is no such object")
	ErrTooLong  = errors.New("the object is longer than allowed")
)
