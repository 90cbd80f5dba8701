package management

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// Races for the trail's end are run again so often, with full jitter between these
// waits: eight operators' changes at once all find their turn well within it.
const (
	mostAttempts = 30
	backOffBase  = 4 * time.Millisecond
	backOffMost  = 250 * time.Millisecond
	storeAway    = 2 * time.Second // until a caller may ask again
)

var errNobody = errors.New("nobody is said to make the change: whoever lets it in must call WithActor")

// changeTo makes a change and reads the document that it leaves.
func changeTo[T any](ctx context.Context, m *Manager, path string, by decide) (is T, version uint64, err error) {
	found, err := m.change(ctx, path, by)
	if err != nil {
		return is, 0, err
	}
	if err := json.Unmarshal(found.Value, &is); err != nil {
		return is, 0, m.hide("read the document "+path, err)
	}
	return is, found.Version, nil
}

// change decides about the document at path, commits, announces, and returns the
// document as it is then.
func (m *Manager) change(ctx context.Context, path string, by decide) (read, error) {
	actor, _ := ctx.Value(actorKey{}).(string)
	if actor == "" {
		return read{}, m.hide("change "+path, errNobody)
	}
	bounded, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	// Read before the wait for a turn: what happens to it meanwhile is somebody else's.
	found, err := m.get(bounded, path)
	if err != nil {
		return read{}, err
	}
	changed, err := m.inTurn(bounded, actor, found, path, by)
	if err != nil {
		return read{}, err
	}
	if changed.Version == 0 {
		return m.get(bounded, path)
	}
	m.announce(ctx, changed)
	return changed, nil
}

// inTurn makes the change when the Manager's other changes before it are made: they
// would only race with it for the trail's end.
func (m *Manager) inTurn(ctx context.Context, actor string, found read, path string, by decide) (read, error) {
	select {
	case m.turns <- struct{}{}:
		defer func() { <-m.turns }()
	default:
		return read{}, busy(fmt.Errorf("%d changes wait already", mostWaiting))
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return read{}, busy(ctx.Err())
	}
	return m.commit(ctx, actor, found, path, by)
}

// commit tries until the change is made, or is seen to be somebody else's turn, and
// returns the document as it made it; the zero value if it is so already.
func (m *Manager) commit(ctx context.Context, actor string, found read, path string, by decide) (read, error) {
	var first, version uint64
	for attempt := 1; ; attempt++ {
		var head identity.Head
		var err error
		if head, version, err = m.head(ctx); err != nil {
			return read{}, err
		}
		if attempt == 1 {
			first = version
		}
		changed, err := m.attempt(ctx, actor, found, by, head, version)
		if !errors.Is(err, errRaced) {
			return changed, err
		}
		now, err := m.get(ctx, path)
		if err != nil {
			return read{}, err
		}
		if now.Version != found.Version {
			return read{}, m.lost(now, head, by)
		}
		if attempt == mostAttempts {
			break
		}
		if err := retry.Pause(ctx, retry.BackOff(attempt, backOffBase, backOffMost, rand.Float64())); err != nil {
			return read{}, busy(err)
		}
	}
	if version == first {
		return read{}, m.hide("change "+path, errors.New("the audit trail's head never moves, and yet its next entry is there: verify the trail"))
	}
	return read{}, busy(fmt.Errorf("lost %d races for the end of the audit trail", mostAttempts))
}

// errRaced is attempt's when somebody else committed first. It never leaves commit.
var errRaced = errors.New("somebody else was first")

// attempt decides and commits once.
func (m *Manager) attempt(ctx context.Context, actor string, found read, by decide, head identity.Head, version uint64) (read, error) {
	at := head.After(m.config.Now())
	d, err := by(found, at)
	if err != nil {
		return read{}, m.known(err)
	}
	if len(d.changes) == 0 {
		return read{}, nil
	}
	changes, err := commitOf(d, actor, head, version, at)
	if err != nil {
		return read{}, m.hide(d.action+" "+d.subject, err)
	}
	entry := changes[len(d.changes)]
	made, err := m.config.Store.Commit(ctx, changes...)
	if errors.Is(err, document.ErrConflict) {
		return read{}, errRaced
	}
	if err != nil {
		if made = m.landed(ctx, entry); made == 0 {
			return read{}, m.unanswered(d, err)
		}
	}
	m.config.Logger.Info("the management plane changed", "action", d.action, "subject", d.subject, "actor", actor, "entry", head.Sequence+1)
	return read{Path: d.changes[0].Path, Value: d.changes[0].Value, Version: made}, nil
}

// landed is the version of a commit whose answer was lost, if its entry is there.
func (m *Manager) landed(ctx context.Context, entry document.Change) (version uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTimeout)
	defer cancel()
	stored, found, err := m.config.Store.Get(ctx, entry.Path)
	if err != nil || !found || !bytes.Equal(stored.Value, entry.Value) {
		return 0
	}
	return stored.Version
}

func (m *Manager) unanswered(d decision, err error) error {
	m.config.Logger.Error("a change of the management plane has no answer from the store", "action", d.action, "subject", d.subject, "error", err)
	found := problem.New(problem.Overloaded, "The store did not say whether the change was made; read before you try again.").Because(err)
	found.RetryAfter = storeAway
	return found
}

// lost is what to tell who lost a race for the document itself: nothing, if it is
// now as they wanted it.
func (m *Manager) lost(now read, head identity.Head, by decide) error {
	d, err := by(now, head.After(m.config.Now()))
	if err != nil {
		return m.known(err)
	}
	if len(d.changes) == 0 {
		return nil
	}
	return problem.New(Conflict, "Somebody else changed %s at the same time, and was first; read it again, and change that.", d.subject).Because(document.ErrConflict)
}

// announce tells the caches, also if whoever asked for the change has left.
func (m *Manager) announce(ctx context.Context, changed document.Document) {
	if m.config.Announce == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTimeout)
	defer cancel()
	if err := m.config.Announce.Announce(ctx, []document.Document{changed}); err != nil {
		m.config.Logger.Warn("a change was not announced: caches hear of it when what they hold is old", "path", changed.Path, "error", err)
	}
}

// get reads a document; one that is not there is the zero value.
func (m *Manager) get(ctx context.Context, path string) (read, error) {
	found, there, err := m.config.Store.Get(ctx, path)
	if err != nil {
		return read{}, m.unavailable("read "+path, err)
	}
	if !there {
		return read{}, nil
	}
	return found, nil
}

// head reads the end of the audit trail; before the first entry it is zero.
func (m *Manager) head(ctx context.Context) (head identity.Head, version uint64, err error) {
	found, err := m.get(ctx, identity.AuditHead)
	if err != nil || found.Version == 0 {
		return identity.Head{}, 0, err
	}
	if err := json.Unmarshal(found.Value, &head); err != nil {
		return identity.Head{}, 0, m.hide("read the head of the audit trail", err)
	}
	return head, found.Version, nil
}

// known passes a problem on, and hides everything else.
func (m *Manager) known(err error) error {
	var found *problem.Error
	if errors.As(err, &found) {
		return found
	}
	return m.hide("decide", err)
}

// hide logs what is not the caller's fault and none of their business.
func (m *Manager) hide(what string, err error) error {
	m.config.Logger.Error("the management plane failed", "doing", what, "error", err)
	return problem.Of(err)
}

// unavailable is for reads: nothing was changed.
func (m *Manager) unavailable(what string, err error) error {
	m.config.Logger.Error("the management plane's store does not answer", "doing", what, "error", err)
	found := problem.New(problem.Overloaded, "The store of tenants and keys does not answer, and nothing was changed; try again soon.").Because(err)
	found.RetryAfter = storeAway
	return found
}

func busy(err error) error {
	found := problem.New(problem.Overloaded, "Too many changes are being made at once, and this one was not; try again.").Because(err)
	found.RetryAfter = time.Second
	return found
}
