package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// An object is stored as its parts, $O.<bucket>.C.<number>, and then what names them,
// $O.<bucket>.M.<name>. Whoever is killed before that, or has no more time, leaves parts
// that belong to nothing, and that the object store does not list.

// sweepParts removes the parts of objects that were never whole, and says of how many.
func (c *Client) sweepParts(ctx context.Context, bucket string) (removed int, err error) {
	stream, err := c.js.Stream(ctx, "OBJ_"+bucket)
	if err != nil {
		return 0, fmt.Errorf("queue: find the object store %s: %w", bucket, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("$O."+bucket+".C.*"))
	if err != nil {
		return 0, fmt.Errorf("queue: list the parts in %s: %w", bucket, err)
	}
	if len(info.State.Subjects) == 0 {
		return 0, nil
	}
	whole, err := c.store.wholeObjects(ctx, bucket) // after the parts: what is named meanwhile is fresh
	if err != nil {
		return 0, err
	}
	for parts := range info.State.Subjects {
		if whole[parts] {
			continue
		}
		last, err := c.store.leaderGet(ctx, "OBJ_"+bucket, map[string]any{"last_by_subj": parts})
		if err != nil {
			return removed, err
		}
		if last == nil || c.now().Sub(last.Time) < fresh {
			continue
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(parts)); err != nil {
			return removed, fmt.Errorf("queue: remove the parts %s: %w", parts, err)
		}
		removed++
	}
	return removed, nil
}

// wholeObjects are the subjects of the parts of all objects that a bucket lists.
func (s *store) wholeObjects(ctx context.Context, bucket string) (map[string]bool, error) {
	whole := make(map[string]bool)
	for from := uint64(1); ; {
		m, err := s.leaderGet(ctx, "OBJ_"+bucket, map[string]any{"seq": from, "next_by_subj": "$O." + bucket + ".M.>"})
		if m == nil || err != nil {
			return whole, err
		}
		var object jetstream.ObjectInfo
		if err := json.Unmarshal(m.Data, &object); err != nil {
			return nil, fmt.Errorf("queue: an object of %s: %.100q: %w", bucket, m.Data, err)
		}
		whole["$O."+bucket+".C."+object.NUID] = !object.Deleted
		from = m.Seq + 1
	}
}
