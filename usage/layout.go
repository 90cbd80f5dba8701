package usage

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// hourLayout is an hour in an object's name, in UTC.
const hourLayout = "dt=2006-01-02/hour=15"

var (
	nodePattern     = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	objectPattern   = regexp.MustCompile(`^usage/(dt=[0-9]{4}-[0-9]{2}-[0-9]{2}/hour=[0-9]{2})/node=([a-z0-9-]{1,63})/([0-9]{20})\.parquet$`)
	presencePattern = regexp.MustCompile(`^open/node=([a-z0-9-]{1,63})\.json$`)
	countsPattern   = regexp.MustCompile(`^counts/(dt=[0-9]{4}-[0-9]{2}-[0-9]{2}/hour=[0-9]{2})/node=([a-z0-9-]{1,63})\.json$`)
)

// ValidateNode says whether a node may be called so: 1 to 63 lower-case letters,
// digits or hyphens.
func ValidateNode(node string) error {
	if !nodePattern.MatchString(node) {
		return fmt.Errorf("node %q: want 1 to 63 lower-case letters, digits or hyphens", node)
	}
	return nil
}

// HourOf is the beginning of the hour, in UTC, that t is in.
func HourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }

// Object names the records of one segment that started in one hour.
type Object struct {
	Node     string
	Hour     time.Time // its beginning, UTC
	Sequence uint64    // the segment's number, never used twice by a node
}

// Key is the object's key in the bucket.
func (o Object) Key() string {
	return fmt.Sprintf("%snode=%s/%020d.parquet", HourPrefix(o.Hour), o.Node, o.Sequence)
}

// HourPrefix is what the keys of an hour's objects begin with, of all nodes.
func HourPrefix(hour time.Time) string { return "usage/" + hour.UTC().Format(hourLayout) + "/" }

// ParseObject reads a key; ok is false for a key that no ledger writes.
func ParseObject(key string) (o Object, ok bool) {
	parts := objectPattern.FindStringSubmatch(key)
	if parts == nil {
		return Object{}, false
	}
	hour, err := time.Parse(hourLayout, parts[1])
	if err != nil {
		return Object{}, false
	}
	sequence, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil {
		return Object{}, false
	}
	return Object{Node: parts[2], Hour: hour, Sequence: sequence}, true
}

// CountsKey is the key of what a node counted in an hour (see Counts).
func CountsKey(node string, hour time.Time) string {
	return CountsPrefix(hour) + "node=" + node + ".json"
}

// CountsPrefix is what the keys of an hour's counts begin with, of all nodes.
func CountsPrefix(hour time.Time) string { return "counts/" + hour.UTC().Format(hourLayout) + "/" }

// ParseCountsKey reads a key of counts; ok is false for any other.
func ParseCountsKey(key string) (node string, hour time.Time, ok bool) {
	parts := countsPattern.FindStringSubmatch(key)
	if parts == nil {
		return "", time.Time{}, false
	}
	hour, err := time.Parse(hourLayout, parts[1])
	return parts[2], hour, err == nil
}

// presencePrefix is what the keys of the nodes' words begin with that they are there.
const presencePrefix = "open/"

func presenceKey(node string) string { return presencePrefix + "node=" + node + ".json" }

// parsePresenceKey reads such a key; ok is false for any other.
func parsePresenceKey(key string) (node string, ok bool) {
	parts := presencePattern.FindStringSubmatch(key)
	if parts == nil {
		return "", false
	}
	return parts[1], true
}
