package management

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
)

// MostPerPage bounds a page of tenants, keys or audit entries.
const MostPerPage = 1000

// Tenant reads a tenant and its version.
func (m *Manager) Tenant(ctx context.Context, id lightcone.TenantID) (tenant identity.Tenant, version uint64, err error) {
	if id.Validate() != nil {
		return tenant, 0, noTenant(id)
	}
	version, err = m.readInto(ctx, identity.TenantPath(id), &tenant)
	if err == nil && version == 0 {
		err = noTenant(id)
	}
	return tenant, version, err
}

// CallbackSecret is what a tenant verifies its callbacks with. It is a NotFound where
// the Manager's Config has none.
func (m *Manager) CallbackSecret(ctx context.Context, id lightcone.TenantID) (string, error) {
	if _, _, err := m.Tenant(ctx, id); err != nil {
		return "", err
	}
	if m.config.CallbackSecret == nil {
		return "", problem.New(problem.NotFound, "This management plane has no key that callbacks are signed with, so it knows no tenant's secret; start it with one.")
	}
	return m.config.CallbackSecret(id), nil
}

// Key reads a key's record.
func (m *Manager) Key(ctx context.Context, id identity.KeyID) (record identity.Record, err error) {
	if id.Validate() != nil {
		return record, noKey(id)
	}
	version, err := m.readInto(ctx, identity.KeyPath(id), &record)
	if err == nil && version == 0 {
		err = noKey(id)
	}
	return record, err
}

// Tenants reads up to limit tenants, in the order of their ids, from the first
// after the given id; "" is before all. more says whether there are further ones.
// All ids are listed for each page, so a page of 100 000 tenants costs the store some megabytes.
func (m *Manager) Tenants(ctx context.Context, after lightcone.TenantID, limit int) (tenants []identity.Tenant, more bool, err error) {
	return pageOf[identity.Tenant](ctx, m, identity.TenantPath(""), string(after), limit, func(id string) string { return identity.TenantPath(lightcone.TenantID(id)) })
}

// Keys reads up to limit records of the tenant's keys, revoked ones too, in the order
// of their ids, from the first after the given one.
func (m *Manager) Keys(ctx context.Context, tenant lightcone.TenantID, after identity.KeyID, limit int) (records []identity.Record, more bool, err error) {
	if _, _, err := m.Tenant(ctx, tenant); err != nil {
		return nil, false, err
	}
	return pageOf[identity.Record](ctx, m, identity.OwnedPath(tenant, ""), string(after), limit, func(id string) string { return identity.KeyPath(identity.KeyID(id)) })
}

// readInto reads a document; the version is 0 when there is none.
func (m *Manager) readInto(ctx context.Context, path string, into json.Unmarshaler) (version uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	found, err := m.get(ctx, path)
	if err != nil || found.Version == 0 {
		return 0, err
	}
	if err := json.Unmarshal(found.Value, into); err != nil {
		return 0, m.hide("read the document "+path, err)
	}
	return found.Version, nil
}

// pageOf lists the ids after prefix and reads what of them belongs on the page.
func pageOf[T any](ctx context.Context, m *Manager, prefix, after string, limit int, pathOf func(id string) string) (page []T, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	listed, err := m.config.Store.Paths(ctx, prefix)
	if err != nil {
		return nil, false, m.unavailable("list "+prefix, err)
	}
	start, found := slices.BinarySearch(listed, prefix+after)
	if found {
		start++
	}
	paths := listed[start:]
	if limit = min(max(limit, 1), MostPerPage); len(paths) > limit {
		paths, more = paths[:limit], true
	}
	for i, path := range paths {
		paths[i] = pathOf(strings.TrimPrefix(path, prefix))
	}
	documents, err := m.getAll(ctx, paths)
	if err != nil {
		return nil, false, err
	}
	page = make([]T, 0, len(documents)) // [] in JSON, not null
	for i, d := range documents {
		var item T
		if err := json.Unmarshal(d.Value, &item); err != nil { // also one that is listed and not there
			return nil, false, m.hide("read the document "+paths[i], err)
		}
		page = append(page, item)
	}
	return page, more, nil
}

// getAll reads documents, some at a time; one that is not there is the zero value.
// Its error is the first one's.
func (m *Manager) getAll(ctx context.Context, paths []string) ([]document.Document, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	documents := make([]document.Document, len(paths))
	next := make(chan int)
	var reading sync.WaitGroup
	for range min(readers, len(paths)) {
		reading.Go(func() {
			for i := range next {
				d, _, err := m.config.Store.Get(ctx, paths[i])
				if err != nil {
					cancel(err)
				}
				documents[i] = d
			}
		})
	}
	for i := range paths {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	reading.Wait()
	if ctx.Err() != nil {
		return nil, m.unavailable("read documents", context.Cause(ctx))
	}
	return documents, nil
}
