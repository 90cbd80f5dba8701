package management

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
)

// Announcer hears of the tenants and keys that have just changed, so that caches
// need not wait for what they hold to grow old.
type Announcer interface {
	// Announce tells the caches. It ends with ctx; its error is logged and changes
	// nothing, for whoever misses it reads the documents when its own time comes.
	Announce(ctx context.Context, changed []document.Document) error
}

// Config says what a Manager is made of. Only Store is required.
type Config struct {
	Store    document.Store // its reads must not lag behind its writes
	Announce Announcer      // nil: nobody
	Timeout  time.Duration  // bounds each operation; 0 means 10 s
	Now      func() time.Time
	Random   io.Reader // of new keys; nil means crypto/rand
	Logger   *slog.Logger

	CallbackSecret func(lightcone.TenantID) string // what a tenant verifies its callbacks with; nil: they are not signed here
}

const (
	defaultTimeout  = 10 * time.Second
	announceTimeout = time.Second
	mostWaiting     = 64 // changes that wait for their turn in one Manager
	readers         = 8  // documents read at once for a page
)

// Manager makes, changes and lists tenants and keys. Any number of goroutines may
// use it, and any number of Managers the same store. Its errors are *problem.Error:
// BadParameter, NotFound, Conflict, Stale, Overloaded when the store cannot
// answer, and Internal for what must not be.
type Manager struct {
	config Config
	turns  chan struct{} // holds the changes that wait or are being made
	turn   chan struct{} // holds the one that is being made
}

// New makes a Manager. It asks nothing of the store yet.
func New(config Config) (*Manager, error) {
	if config.Store == nil {
		return nil, errors.New("management: there is no store: say which one keeps the documents")
	}
	config.Timeout = cmp.Or(config.Timeout, defaultTimeout)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Random == nil {
		config.Random = rand.Reader
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Manager{config: config, turns: make(chan struct{}, mostWaiting), turn: make(chan struct{}, 1)}, nil
}

type actorKey struct{}

// WithActor says who makes the changes that are made with the context: the id of
// the operator's key, as the audit trail will name it. No change is made without.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// CreateTenant makes a tenant that limits nothing. An id that is taken is a Conflict.
func (m *Manager) CreateTenant(ctx context.Context, id lightcone.TenantID, name string) (identity.Tenant, uint64, error) {
	if err := checkTenant(identity.Tenant{ID: id, Name: name}); err != nil {
		return identity.Tenant{}, 0, err // before the id becomes a path
	}
	return changeTo[identity.Tenant](ctx, m, identity.TenantPath(id), creating(id, name))
}

// EditTenant changes a tenant, and returns it with its version. With versions it does so
// only if the tenant is at one of them, and is Stale otherwise. Without, it is a
// Conflict when somebody else changed the tenant since EditTenant began.
func (m *Manager) EditTenant(ctx context.Context, id lightcone.TenantID, edit Edit, versions ...uint64) (identity.Tenant, uint64, error) {
	if id.Validate() != nil {
		return identity.Tenant{}, 0, noTenant(id)
	}
	return changeTo[identity.Tenant](ctx, m, identity.TenantPath(id), editing(id, edit, versions))
}

// IssueKey makes a key of the tenant's. Show it to its holder: nobody can read
// its secret again. The zero time never expires.
func (m *Manager) IssueKey(ctx context.Context, tenant lightcone.TenantID, scopes identity.Scopes, expires time.Time) (identity.Key, identity.Record, error) {
	key, err := identity.NewKey(m.config.Random)
	if err != nil {
		return identity.Key{}, identity.Record{}, m.hide("issue a key", err)
	}
	record, err := m.admit(ctx, "key.issue", identity.Record{ID: key.ID(), Digest: key.Digest(), Tenant: tenant, Scopes: scopes, Expires: expires})
	if err != nil {
		return identity.Key{}, identity.Record{}, err
	}
	return key, record, nil
}

// ImportKey takes in the record of a key that was made elsewhere. If the key is there already,
// as the same tenant's and with the same digest, nothing changes, and the record
// is returned as it is stored; another key with its id is a Conflict.
func (m *Manager) ImportKey(ctx context.Context, record identity.Record) (identity.Record, error) {
	return m.admit(ctx, "key.import", record)
}

func (m *Manager) admit(ctx context.Context, action string, record identity.Record) (identity.Record, error) {
	if record.Tenant.Validate() != nil {
		return identity.Record{}, noTenant(record.Tenant)
	}
	if err := checkRecord(record, m.config.Now()); err != nil {
		return identity.Record{}, err
	}
	// Tenants are never deleted, so one that is there stays.
	if _, _, err := m.Tenant(ctx, record.Tenant); err != nil {
		return identity.Record{}, err
	}
	record, _, err := changeTo[identity.Record](ctx, m, identity.KeyPath(record.ID), admitting(action, record))
	return record, err
}

// RevokeKey ends a key for good. It is no error that it is revoked already.
func (m *Manager) RevokeKey(ctx context.Context, id identity.KeyID) error {
	if id.Validate() != nil {
		return noKey(id)
	}
	_, _, err := changeTo[identity.Record](ctx, m, identity.KeyPath(id), revoking(id))
	return err
}
