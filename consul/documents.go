package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"lightcone/internal/document"
	"lightcone/internal/retry"
)

// Documents is a document.Store in Consul's KV, below a prefix. A document's
// version is its key's ModifyIndex. Commits are KV transactions, which Consul's servers
// agree on before they answer; they need key:write below the prefix, reads
// key:read. Get, Commit and Paths end within the client's timeout.
type Documents struct {
	client *Client
	prefix string // of the keys; ends with a slash
	stale  bool
}

// NewDocuments is the store below a prefix such as "lightcone/identity/".
//
// Without stale, reads see every Commit that has returned, and fail while Consul's
// servers have no leader. With stale, any server answers, also without a leader. What
// it knows is as old as the last word it had from the leader: some milliseconds, and
// while it is cut off, all the time since then. It is believed about what it has, and
// not that something is missing, which the leader alone can say: a server that has just
// been started has read little of what it keeps. Wait never takes an older version than
// its own for news.
func NewDocuments(client *Client, prefix string, stale bool) *Documents {
	return &Documents{client: client, prefix: strings.TrimSuffix(prefix, "/") + "/", stale: stale}
}

// Get implements document.Store.
func (d *Documents) Get(ctx context.Context, path string) (document.Document, bool, error) {
	if err := document.CheckPath(path); err != nil {
		return document.Document{}, false, fmt.Errorf("get a document: %w", err)
	}
	options, cancel := d.client.reading(ctx)
	defer cancel()
	got, err := d.ask(path, options, !d.stale)
	if err == nil && !got.found && d.stale {
		got, err = d.ask(path, options, true)
	}
	if err != nil {
		return document.Document{}, false, fmt.Errorf("get the document %s from Consul: %w", path, err)
	}
	return got.document, got.found, nil
}

// documentAnswer is what one question about a document brought.
type documentAnswer struct {
	document    document.Document
	found       bool
	index       uint64 // of the answer: the key's, or that of all keys when it is missing
	fromLeader  bool   // it is the truth of the moment
	knownLeader bool   // the server that answered knows a leader of the servers
}

// ask asks the leader, or whichever server is near.
func (d *Documents) ask(path string, options *api.QueryOptions, leader bool) (documentAnswer, error) {
	options.RequireConsistent, options.AllowStale = leader, !leader
	pair, meta, err := d.client.api.KV().Get(d.prefix+path, options)
	if err != nil {
		return documentAnswer{}, err
	}
	got := documentAnswer{index: meta.LastIndex, fromLeader: leader, knownLeader: meta.KnownLeader}
	if pair != nil {
		got.found = true
		got.document = document.Document{Path: path, Value: pair.Value, Version: pair.ModifyIndex}
	}
	return got, nil
}

// Paths implements document.Store. It fails when the token may not see all of them.
func (d *Documents) Paths(ctx context.Context, prefix string) ([]string, error) {
	if err := document.CheckPrefix(prefix); err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	options, cancel := d.client.reading(ctx)
	defer cancel()
	options.RequireConsistent = true // whoever else answers may lack some
	keys, meta, err := d.client.api.KV().Keys(d.prefix+prefix, "", options)
	if err == nil {
		err = d.incomplete(keys, meta)
	}
	if err != nil {
		return nil, fmt.Errorf("list the documents under %q in Consul: %w", prefix, err)
	}
	for i, key := range keys { // Consul keeps them in a radix tree: sorted
		keys[i] = strings.TrimPrefix(key, d.prefix)
	}
	return keys, nil
}

// incomplete says why a list may lack something.
func (d *Documents) incomplete(keys []string, meta *api.QueryMeta) error {
	// Consul does not tell a client without a token that it hides something.
	blind := d.client.config.Token == "" && meta.DefaultACLPolicy == "deny" && len(keys) == 0
	if meta.ResultsFilteredByACLs || blind {
		return errors.New(string(refused))
	}
	return nil
}

// Commit implements document.Store. The version is the index of the transaction.
func (d *Documents) Commit(ctx context.Context, changes ...document.Change) (uint64, error) {
	if err := document.Check(changes); err != nil {
		return 0, err
	}
	operations, paths := d.operations(changes)
	options, cancel := d.client.reading(ctx) // what Txn takes, though it writes
	defer cancel()
	ok, response, _, err := d.client.api.Txn().Txn(operations, options)
	if err == nil && !ok {
		err = whyRefused(response.Errors, paths)
	}
	if err != nil {
		return 0, fmt.Errorf("commit %d documents, %s first, to Consul: %w", len(changes), changes[0].Path, err)
	}
	version := uint64(0)
	for i, result := range response.Results { // deletions have none
		if operations[i].KV.Verb == api.KVCAS {
			version = result.KV.ModifyIndex
		}
	}
	return version, nil
}

// operations are the changes as operations of one transaction, and the path that each of
// them is about. Those that write come first, because their results do, too.
//
// The flags make every entry differ from the one before: Consul would leave an entry
// that does not change its index. A deletion is checked by itself, because
// delete-cas is content when there is nothing to delete.
func (d *Documents) operations(changes []document.Change) (operations api.TxnOps, paths []string) {
	add := func(change document.Change, op api.KVTxnOp) {
		op.Key = d.prefix + change.Path
		operations, paths = append(operations, &api.TxnOp{KV: &op}), append(paths, change.Path)
	}
	for _, change := range changes {
		if !change.Delete {
			add(change, api.KVTxnOp{Verb: api.KVCAS, Value: change.Value, Index: change.Version, Flags: change.Version})
		}
	}
	for _, change := range changes {
		if change.Delete {
			add(change, api.KVTxnOp{Verb: api.KVCheckIndex, Index: change.Version})
			add(change, api.KVTxnOp{Verb: api.KVDelete})
		}
	}
	return operations, paths
}

// whyRefused tells a conflict of versions from anything else that Consul has
// against a transaction.
func whyRefused(reasons api.TxnErrors, paths []string) error {
	conflict, others := error(nil), []error(nil)
	for _, reason := range reasons {
		path := "the transaction"
		if reason.OpIndex >= 0 && reason.OpIndex < len(paths) {
			path = paths[reason.OpIndex]
		}
		stale := strings.Contains(reason.What, "index is stale") || // a compare-and-set's words,
			strings.Contains(reason.What, "failed index check") || // and a check's, with another version
			strings.Contains(reason.What, "failed to check index") // and without any
		if stale {
			conflict = fmt.Errorf("%s: %w (%s)", path, document.ErrConflict, reason.What)
		} else {
			others = append(others, fmt.Errorf("%s: %s", path, reason.What))
		}
	}
	if len(others) > 0 {
		return errors.Join(others...)
	}
	if conflict == nil {
		return errors.New("the transaction was refused without a reason")
	}
	return conflict
}

// Wait implements document.Store by blocking queries, at most ten a second, with at
// most two other questions before each. While Consul cannot answer it returns an error, soon; to back off is its caller's.
func (d *Documents) Wait(ctx context.Context, path string, version uint64) (document.Document, bool, error) {
	if err := document.CheckPath(path); err != nil {
		return document.Document{}, false, fmt.Errorf("wait for a document: %w", err)
	}
	stands := vigil{version: version, leader: !d.stale}
	for ctx.Err() == nil {
		asked, waited := time.Now(), stands.index > 0
		got, err := d.next(ctx, path, stands)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return document.Document{}, false, fmt.Errorf("wait for the document %s in Consul: %w", path, err)
		}
		var news bool
		if news, stands = stands.judge(got); news {
			return got.document, got.found, nil
		}
		if waited {
			_ = retry.Pause(ctx, watchSpacing-time.Since(asked)) // the loop looks at ctx
		}
	}
	return document.Document{}, false, fmt.Errorf("wait for the document %s in Consul: %w", path, ctx.Err())
}

// next asks for the next answer: at once when there is no index to wait at.
func (d *Documents) next(ctx context.Context, path string, stands vigil) (documentAnswer, error) {
	options, cancel := d.client.reading(ctx)
	if stands.index > 0 {
		cancel()
		options, cancel = d.client.blocking(ctx, stands.index, longestWait)
	}
	defer cancel()
	return d.ask(path, options, stands.leader || !d.stale)
}

// vigil is where a Wait stands.
type vigil struct {
	version uint64 // that its caller has; 0 = there is none
	index   uint64 // to wait at; 0 = ask at once
	leader  bool   // ask the leader next
}

// judge says whether an answer is news, and where the Wait stands after it.
//
// An answer of another version is not news if it comes from a server that may be
// behind the caller: one whose index is below the caller's version, or which
// misses the document and knows of no leader. The leader is asked, and believed. Its
// answer sets the index at which the server that is behind is then waited for.
//
// An index that goes back starts the vigil over, and one of 0 does not block:
// https://developer.hashicorp.com/consul/api-docs/features/blocking
func (v vigil) judge(got documentAnswer) (news bool, next vigil) {
	next = vigil{version: v.version}
	switch behind := got.index < v.version || !got.found && !got.knownLeader; {
	case got.document.Version != v.version && (got.fromLeader || !behind):
		return true, next
	case got.document.Version != v.version:
		next.leader = true
	case got.index >= v.index:
		next.index = max(got.index, 1)
	}
	return false, next
}
