package billing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lightcone/usage"
	"lightcone/usage/store"
)

// Finding is a difference between what was answered, stored and billed.
type Finding struct {
	Node     string `json:"node"` // "" for all of them
	Object   string `json:"object,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"` // of the object; sequences begin at 1
	Count    int64  `json:"count"`              // records or calls; 0 if that cannot be said
	What     string `json:"what"`
}

// NodeHour is what one node's calls of an hour came to.
type NodeHour struct {
	Node        string `json:"node"`
	Answered    int64  `json:"answered"`    // by the node's own count
	Interrupted int64  `json:"interrupted"` // recorded, and the process killed before the answer
	Recorded    int64  `json:"recorded"`    // by the node's own count
	Stored      int64  `json:"stored"`      // records in its objects
	Billed      int64  `json:"billed"`      // calls billed on their account
}

// Reconciliation is an hour's answer to: was every call that was answered stored,
// and every one that was stored billed, once?
type Reconciliation struct {
	Hour     string     `json:"hour"`
	Nodes    []NodeHour `json:"nodes"`
	Findings []Finding  `json:"findings"`
}

// stored is an object as it was found in the bucket, or in the archive.
type stored struct {
	object usage.Object
	rows   int64
	damage string // why it cannot be read
}

// Reconcile compares the nodes' own counts of an hour with what is in the bucket and
// what was billed. archived are the rows of objects that were moved to the archive, by
// key. Its error is about what could not be read; a difference is a finding.
func Reconcile(ctx context.Context, bucket *store.Bucket, archived map[string]int64, hour time.Time) (*Reconciliation, error) {
	counts, findings, err := readCounts(ctx, bucket, hour)
	if err != nil {
		return nil, err
	}
	objects, foreign, err := readStored(ctx, bucket, hour)
	if err != nil {
		return nil, err
	}
	for key, rows := range archived {
		if object, ok := usage.ParseObject(key); ok && object.Hour.Equal(hour) {
			if _, there := objects[key]; !there {
				objects[key] = stored{object: object, rows: rows}
			}
		}
	}
	bill, err := ReadBill(ctx, bucket, hour)
	if errors.Is(err, store.ErrNotFound) {
		bill, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	lost, err := findGaps(ctx, bucket, hour, counts, objects)
	if err != nil {
		return nil, err
	}
	result := compare(hour, counts, objects, bill)
	result.Findings = slices.Concat(findings, foreign, lost, result.Findings)
	return result, nil
}

// longestCounts bounds a node's counts of an hour: some hundred thousand segments.
const longestCounts = 32 << 20

func readCounts(ctx context.Context, bucket *store.Bucket, hour time.Time) ([]usage.Counts, []Finding, error) {
	var keys []string
	err := bucket.List(ctx, usage.CountsPrefix(hour), func(o store.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var counts []usage.Counts
	var findings []Finding
	for _, key := range keys {
		node, _, ours := usage.ParseCountsKey(key)
		if !ours {
			findings = append(findings, Finding{Object: key, What: "a foreign file among the counts"})
			continue
		}
		content, err := bucket.Read(ctx, key, longestCounts)
		if err != nil {
			return nil, nil, err
		}
		count, err := usage.ParseCounts(content)
		if err == nil && (count.Node != node || !count.Hour.Equal(hour)) {
			err = fmt.Errorf("they are those of %s in hour %s", count.Node, HourText(count.Hour))
		}
		if err != nil {
			findings = append(findings, Finding{Node: node, Object: key, What: "its counts cannot be used: " + err.Error()})
			continue
		}
		counts = append(counts, count)
	}
	return counts, findings, nil
}

// readStored inspects an hour's objects.
func readStored(ctx context.Context, bucket *store.Bucket, hour time.Time) (map[string]stored, []Finding, error) {
	keys, err := keysOf(ctx, bucket, hour)
	if err != nil {
		return nil, nil, err
	}
	objects := make(map[string]stored)
	var foreign []Finding
	for _, key := range keys {
		name, ours := usage.ParseObject(key)
		if !ours {
			foreign = append(foreign, Finding{Object: key, What: "a foreign file among the records"})
			continue
		}
		content, err := bucket.Read(ctx, key, store.LongestObject)
		if err != nil && !errors.Is(err, store.ErrTooLong) {
			return nil, nil, err
		}
		objects[key] = inspectStored(name, content, err)
	}
	return objects, foreign, nil
}

// inspectStored inspects an object, unless it was too long to be read.
func inspectStored(name usage.Object, content []byte, tooLong error) stored {
	if tooLong != nil {
		return stored{object: name, damage: tooLong.Error()}
	}
	records, err := store.Inspect(content, name.Node, name.Sequence)
	if err != nil {
		return stored{object: name, damage: err.Error()}
	}
	return stored{object: name, rows: records.Rows}
}

// compare finds the differences. bill is nil if the hour was not billed.
func compare(hour time.Time, counts []usage.Counts, objects map[string]stored, bill *Bill) *Reconciliation {
	c := comparison{nodes: make(map[string]*NodeHour), counted: make(map[string]bool)}
	for _, count := range counts {
		c.compareCounts(hour, count, objects)
	}
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		object := objects[key]
		c.node(object.object.Node).Stored += object.rows
		switch {
		case object.damage != "":
			c.add(object.object, object.rows, "the stored object is damaged: "+object.damage)
		case !c.counted[key]:
			c.add(object.object, object.rows, "records are stored that the node has not counted")
		}
	}
	c.compareBill(objects, bill)
	result := &Reconciliation{Hour: HourText(hour), Nodes: []NodeHour{}, Findings: append([]Finding{}, c.findings...)}
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		result.Nodes = append(result.Nodes, *c.nodes[name])
	}
	return result
}

// comparison is what has been found so far.
type comparison struct {
	nodes    map[string]*NodeHour
	counted  map[string]bool // objects that the nodes know of
	findings []Finding
}

func (c *comparison) node(name string) *NodeHour {
	if c.nodes[name] == nil {
		c.nodes[name] = &NodeHour{Node: name}
	}
	return c.nodes[name]
}

func (c *comparison) add(object usage.Object, count int64, what string) {
	c.findings = append(c.findings, Finding{Node: object.Node, Object: object.Key(), Sequence: object.Sequence, Count: count, What: what})
}

// compareCounts compares a node's counts with themselves and with what is stored.
func (c *comparison) compareCounts(hour time.Time, count usage.Counts, objects map[string]stored) {
	node := c.node(count.Node)
	node.Answered, node.Interrupted, node.Recorded = count.Answered, count.Interrupted, count.Recorded
	if !count.Closed {
		c.findings = append(c.findings, Finding{Node: count.Node, What: "the node has not closed the hour: it may still hold records of it"})
	}
	switch difference := count.Difference(); {
	case difference < 0:
		c.findings = append(c.findings, Finding{Node: count.Node, Count: -difference, What: "calls were answered and not recorded"})
	case difference > 0:
		c.findings = append(c.findings, Finding{Node: count.Node, Count: difference, What: "records are of calls that were not answered"})
	}
	for _, sequence := range count.Sequences {
		object := usage.Object{Node: count.Node, Hour: hour, Sequence: sequence.Sequence}
		if sequence.Torn > 0 {
			c.add(object, sequence.Torn, "records were damaged on the node's disk, and are lost")
		}
		if sequence.Rows == 0 {
			continue
		}
		c.counted[object.Key()] = true
		found, there := objects[object.Key()]
		switch {
		case !there:
			c.add(object, sequence.Rows, "records were recorded and are not stored")
		case found.damage == "" && found.rows != sequence.Rows:
			c.add(object, found.rows-sequence.Rows, fmt.Sprintf("records are stored, less those that the node has counted, %d", sequence.Rows))
		}
	}
}

// compareBill compares what is stored with what was billed.
func (c *comparison) compareBill(objects map[string]stored, bill *Bill) {
	if bill == nil {
		c.findings = append(c.findings, Finding{What: "the hour has not been billed"})
		return
	}
	seen := make(map[string]bool)
	for _, billed := range bill.Objects {
		seen[billed.Key] = true
		object, _ := usage.ParseObject(billed.Key)
		c.node(object.Node).Billed += billed.Billed
		found, there := objects[billed.Key]
		switch {
		case !there:
			c.add(object, billed.Rows, "records were billed and are no longer stored")
		case found.damage == "" && found.rows != billed.Rows:
			c.add(object, found.rows-billed.Rows, fmt.Sprintf("records are stored, less those that were billed, %d: bill the hour again", billed.Rows))
		}
		if billed.Rows != billed.Billed {
			c.add(object, billed.Rows-billed.Billed, "records are of calls that are billed already, by another record")
		}
	}
	for _, refused := range bill.Refused {
		seen[refused.Key] = true
		object, ours := usage.ParseObject(refused.Key)
		if !ours {
			continue // a foreign file has its finding
		}
		if found := objects[refused.Key]; found.damage == "" {
			c.add(object, found.rows, "records were not billed: "+refused.Reason)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		if object := objects[key]; !seen[key] && object.damage == "" {
			c.add(object.object, object.rows, "records were stored after the hour was billed: bill it again")
		}
	}
	if bill.Disputed > 0 {
		c.findings = append(c.findings, Finding{Count: bill.Disputed, What: "calls have records that differ; each is billed at the least of them"})
	}
	if bill.Strays > 0 {
		c.findings = append(c.findings, Finding{Count: bill.Strays, What: "calls have an id of another hour than their start: copies of them in other hours would be billed, too"})
	}
}

// String is a finding in a line.
func (f Finding) String() string {
	var line strings.Builder
	if f.Node != "" {
		fmt.Fprintf(&line, "node %s: ", f.Node)
	}
	if f.Sequence > 0 {
		fmt.Fprintf(&line, "sequence %d: ", f.Sequence)
	} else if f.Object != "" {
		fmt.Fprintf(&line, "%s: ", f.Object)
	}
	if f.Count != 0 {
		fmt.Fprintf(&line, "%d ", f.Count)
	}
	return line.String() + f.What
}
