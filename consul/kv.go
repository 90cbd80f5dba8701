package consul

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
)

// Entry is a key with its value, and the index of its last change, which
// CompareAndSet and PutFenced compare.
type Entry struct {
	Key   string
	Value []byte
	Index uint64
}

// Get reads one key, as the leader of the Consul servers knows it. found is
// false, without an error, when there is no such key.
func (c *Client) Get(ctx context.Context, key string) (entry Entry, found bool, err error) {
	options, cancel := c.reading(ctx)
	defer cancel()
	pair, _, err := c.api.KV().Get(key, options)
	if err != nil {
		return Entry{}, false, fmt.Errorf("get the Consul key %q: %w", key, err)
	}
	if pair == nil {
		return Entry{}, false, nil
	}
	return entryOf(pair), true, nil
}

// List reads all keys that begin with prefix, sorted by key; none is no error.
func (c *Client) List(ctx context.Context, prefix string) ([]Entry, error) {
	options, cancel := c.reading(ctx)
	defer cancel()
	pairs, _, err := c.api.KV().List(prefix, options)
	if err != nil {
		return nil, fmt.Errorf("list the Consul keys under %q: %w", prefix, err)
	}
	entries := make([]Entry, 0, len(pairs))
	for _, pair := range pairs { // Consul keeps them in a radix tree: sorted
		entries = append(entries, entryOf(pair))
	}
	return entries, nil
}

// CompareAndSet writes the key if its index is still the given one; 0 means only
// if there is no such key. It answers whether it wrote. After an error nobody
// knows: read the key again. A value may have up to 512 KiB.
func (c *Client) CompareAndSet(ctx context.Context, key string, value []byte, index uint64) (bool, error) {
	options, cancel := c.writing(ctx)
	defer cancel()
	ok, _, err := c.api.KV().CAS(&api.KVPair{Key: key, Value: value, ModifyIndex: index}, options)
	if err != nil {
		return false, fmt.Errorf("set the Consul key %q at index %d: %w", key, index, err)
	}
	return ok, nil
}

// Delete removes the key; one that is not there is no error.
func (c *Client) Delete(ctx context.Context, key string) error {
	options, cancel := c.writing(ctx)
	defer cancel()
	if _, err := c.api.KV().Delete(key, options); err != nil {
		return fmt.Errorf("delete the Consul key %q: %w", key, err)
	}
	return nil
}

func entryOf(pair *api.KVPair) Entry {
	return Entry{Key: pair.Key, Value: pair.Value, Index: pair.ModifyIndex}
}
