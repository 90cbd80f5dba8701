package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
)

// objects is JetStream's object store as the protocol's warehouse. Inputs are named
// by tenant and id, results by a name of their own: of two attempts that both have
// one, the second removes what it stored.
type objects struct {
	js jetstream.JetStream

	mu   sync.Mutex
	open map[string]jetstream.ObjectStore
}

// bucket finds an object store, once.
func (o *objects) bucket(ctx context.Context, name string) (jetstream.ObjectStore, error) {
	o.mu.Lock()
	found := o.open[name]
	o.mu.Unlock()
	if found != nil {
		return found, nil
	}
	found, err := o.js.ObjectStore(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("queue: object store %s: %w", name, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = make(map[string]jetstream.ObjectStore)
	}
	o.open[name] = found
	return found, nil
}

func (o *objects) put(ctx context.Context, bucket, name string, body []byte) error {
	store, err := o.bucket(ctx, bucket)
	if err != nil {
		return err
	}
	if _, err = store.Put(ctx, jetstream.ObjectMeta{Name: name}, bytes.NewReader(body)); err != nil {
		if strings.Contains(err.Error(), "maximum bytes exceeded") {
			return unavailable("The queue's store of large inputs and results is full: try again later.", err)
		}
		return fmt.Errorf("queue: store %s in %s: %w", name, bucket, err)
	}
	return nil
}

// get is an object; nil when there is none.
func (o *objects) get(ctx context.Context, bucket, name string) ([]byte, error) {
	store, err := o.bucket(ctx, bucket)
	if err != nil {
		return nil, err
	}
	body, err := store.GetBytes(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("queue: get %s of %s: %w", name, bucket, err)
	}
	return body, nil
}

// stored is when an object was stored; zero when there is none.
func (o *objects) stored(ctx context.Context, bucket, name string) (time.Time, error) {
	store, err := o.bucket(ctx, bucket)
	if err != nil {
		return time.Time{}, err
	}
	info, err := store.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("queue: look for %s in %s: %w", name, bucket, err)
	}
	return info.ModTime, nil
}

// drop removes an object. One that is gone is no error. The object store's own Delete
// leaves a mark for as long as the object would have stayed, and fails when the store is
// full. Whoever is killed half way leaves parts without a name, which the sweep finds.
func (o *objects) drop(ctx context.Context, bucket, name string) error {
	store, err := o.bucket(ctx, bucket)
	if err != nil {
		return err
	}
	info, err := store.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	var stream jetstream.Stream
	if err == nil {
		stream, err = o.js.Stream(ctx, "OBJ_"+bucket)
	}
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+bucket+".M."+base64.URLEncoding.EncodeToString([]byte(name))))
	}
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+bucket+".C."+info.NUID))
	}
	if err != nil {
		return fmt.Errorf("queue: remove %s of %s: %w", name, bucket, err)
	}
	return nil
}

func inputName(tenant lightcone.TenantID, id lightcone.CallID) string {
	return string(tenant) + "." + id.String()
}

func (o *objects) putInput(ctx context.Context, j *job, body []byte) error {
	return o.put(ctx, inputsBucket, inputName(j.Tenant, j.ID), body)
}

func (o *objects) dropInput(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) error {
	return o.drop(ctx, inputsBucket, inputName(tenant, id))
}

func (o *objects) putResult(ctx context.Context, r *record, body []byte) (string, error) {
	name := inputName(r.Tenant, r.ID) + "." + rand.Text()
	return name, o.put(ctx, resultsBucket, name, body)
}

func (o *objects) dropResult(ctx context.Context, object string) error {
	return o.drop(ctx, resultsBucket, object)
}

// object is what the sweep knows of an input or a result.
type object struct {
	name   string
	tenant lightcone.TenantID
	id     lightcone.CallID
	stored time.Time
}

// all calls see for each object in a bucket.
func (o *objects) all(ctx context.Context, bucket string, see func(object) error) error {
	store, err := o.bucket(ctx, bucket)
	if err != nil {
		return err
	}
	watch, err := store.Watch(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("queue: list %s: %w", bucket, err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case info := <-watch.Updates():
			if info == nil { // all that there was
				return nil
			}
			tenant, text, _ := strings.Cut(info.Name, ".")
			text, _, _ = strings.Cut(text, ".")
			id, err := lightcone.ParseCallID(text)
			if err != nil {
				continue // nothing that this named: its expiry sees to it
			}
			if err := see(object{info.Name, lightcone.TenantID(tenant), id, info.ModTime}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
