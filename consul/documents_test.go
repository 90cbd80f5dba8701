package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/hashicorp/consul/api"

	"lightcone/internal/document"
	"lightcone/internal/document/conformance"
	"lightcone/internal/testbed"
)

// TestVigilTranscripts plays testdata/vigil.txt: what a Wait makes of answers.
func TestVigilTranscripts(t *testing.T) {
	var stands vigil
	datadriven.RunTest(t, "testdata/vigil.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "wait":
			stands = vigil{leader: d.HasArg("leader")}
			d.ScanArgs(t, "version", &stands.version)
			return ""
		case "answer":
			got := documentAnswer{fromLeader: d.HasArg("from-leader"), knownLeader: !d.HasArg("leaderless")}
			d.ScanArgs(t, "index", &got.index)
			if got.found = d.HasArg("version"); got.found {
				d.ScanArgs(t, "version", &got.document.Version)
			}
			var news bool
			if news, stands = stands.judge(got); news {
				return "news"
			}
			return fmt.Sprintf("wait at %d; ask the leader: %v", stands.index, stands.leader)
		default:
			d.Fatalf(t, "no command %s", d.Cmd)
			return ""
		}
	})
}

// documents is a store whose token may do nothing but read and write below the prefix.
func (a *agent) documents(prefix string, stale bool) *Documents {
	a.t.Helper()
	m := a.client(management)
	name := strings.ReplaceAll(strings.Trim(prefix, "/"), "/", "-")
	if err := m.PutPolicy(a.t.Context(), name, fmt.Sprintf("key_prefix %q { policy = \"write\" }", prefix)); err != nil {
		a.t.Fatal(err)
	}
	token, err := m.PutToken(a.t.Context(), name, name)
	if err != nil {
		a.t.Fatal(err)
	}
	return NewDocuments(a.client(token), prefix, stale)
}

func TestDocumentsConform(t *testing.T) {
	t.Parallel()
	for _, stale := range []bool{false, true} { // a single server's own reads are never behind
		t.Run("stale="+strconv.FormatBool(stale), func(t *testing.T) {
			t.Parallel()
			a, stores := newAgent(t), 0
			conformance.Run(t, func(*testing.T) document.Store {
				stores++
				return a.documents(fmt.Sprintf("lightcone/store-%d/", stores), stale)
			})
		})
	}
}

// TestWaitOutlivesTheAgent: while the agent is away, Wait says that nobody can
// tell; then it goes on, and takes nothing for news that is none.
func TestWaitOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	for _, stale := range []bool{false, true} {
		t.Run("stale="+strconv.FormatBool(stale), func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			d := a.documents("lightcone/identity/", stale)
			version, err := d.Commit(t.Context(), document.Change{Path: "a", Value: []byte("1")})
			if err != nil {
				t.Fatal(err)
			}
			broke := make(chan error, 1)
			go func() {
				_, _, err := d.Wait(t.Context(), "a", version)
				broke <- err
			}()
			select {
			case err := <-broke:
				t.Fatalf("Wait returned before anything happened: %v", err)
			case <-time.After(500 * time.Millisecond):
			}
			a.Kill()
			if err := <-broke; err == nil || !strings.Contains(err.Error(), "the document a ") {
				t.Fatalf("Wait ended with %v", err)
			}
			if _, _, err := d.Wait(t.Context(), "a", version); err == nil {
				t.Fatal("Wait found something without an agent")
			}
			a.Restart()
			short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if got, _, err := d.Wait(short, "a", version); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("news after the restart: %+v, %v", got, err)
			}
			next, err := d.Commit(t.Context(), document.Change{Path: "a", Value: []byte("2"), Version: version})
			if err != nil || next <= version {
				t.Fatalf("version %d after %d, %v", next, version, err)
			}
			if got, found, err := d.Wait(t.Context(), "a", version); err != nil || !found || got.Version != next || string(got.Value) != "2" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestDocumentsWithoutALeader asks a server whose only fellow voter has died.
func TestDocumentsWithoutALeader(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newAgent(t)
	m := a.client(management)
	sure, stale := a.documents("lightcone/identity/", false), a.documents("lightcone/identity/", true)
	version, err := sure.Commit(ctx, document.Change{Path: "a", Value: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	a.loseQuorum(m)
	if d, found, err := stale.Get(ctx, "a"); err != nil || !found || d.Version != version || string(d.Value) != "1" {
		t.Errorf("stale: %+v, %v", d, err)
	}
	if d, _, err := stale.Wait(ctx, "a", 0); err != nil || d.Version != version {
		t.Errorf("stale: waited for %+v, %v", d, err)
	}
	_, _, missingErr := stale.Get(ctx, "b")
	_, pathsErr := stale.Paths(ctx, "")
	_, _, newerErr := stale.Wait(ctx, "a", version+1000) // this server is behind who has that
	_, _, sureErr := sure.Get(ctx, "a")
	_, commitErr := stale.Commit(ctx, document.Change{Path: "a", Version: version})
	for what, err := range map[string]error{"missing": missingErr, "paths": pathsErr, "newer": newerErr, "sure": sureErr, "commit": commitErr} {
		if err == nil || errors.Is(err, document.ErrConflict) {
			t.Errorf("%s, without a leader: %v", what, err)
		}
	}
}

// loseQuorum starts a second voter beside the agent and kills it.
func (a *agent) loseQuorum(m *Client) {
	a.t.Helper()
	peer := testbed.StartConsul(a.t, testbed.ConsulConfig{ACL: true, Beside: a.Consul})
	eventually(a.t, 60*time.Second, "there are two voters", func() bool {
		raft, err := m.api.Operator().RaftGetConfiguration(nil)
		if err != nil {
			return false
		}
		voters := 0
		for _, server := range raft.Servers {
			if server.Voter {
				voters++
			}
		}
		return voters == 2
	})
	peer.Kill()
	eventually(a.t, 60*time.Second, "the quorum is gone", func() bool {
		_, err := m.CompareAndSet(a.t.Context(), "x", []byte("y"), 0)
		return err != nil
	})
}

// TestDocumentsOfOthers: a token that may not is told so, and does not see an
// empty store.
func TestDocumentsOfOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newAgent(t)
	mine := a.documents("lightcone/identity/", false)
	version, err := mine.Commit(ctx, document.Change{Path: "a", Value: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	for who, token := range map[string]string{"another": a.scheduler().Token(), "nobody": ""} {
		d := NewDocuments(a.client(token), "lightcone/identity/", false)
		_, _, getErr := d.Get(ctx, "a")
		_, pathsErr := d.Paths(ctx, "")
		_, _, waitErr := d.Wait(ctx, "a", version)
		_, commitErr := d.Commit(ctx, document.Change{Path: "new"}, document.Change{Path: "a", Version: 99})
		_, deleteErr := d.Commit(ctx, document.Change{Path: "a", Version: version, Delete: true})
		for what, err := range map[string]error{"get": getErr, "paths": pathsErr, "wait": waitErr, "commit": commitErr, "delete": deleteErr} {
			if err == nil || errors.Is(err, document.ErrConflict) {
				t.Errorf("%s, by %s: %v", what, who, err)
			}
		}
	}
	if got, err := mine.Paths(ctx, ""); err != nil || len(got) != 1 {
		t.Errorf("left are %q, %v", got, err)
	}
	if _, err := mine.Commit(ctx, document.Change{Path: "b"}, document.Change{Path: "a", Version: 99}); err == nil || !strings.Contains(err.Error(), "a: "+document.ErrConflict.Error()) {
		t.Errorf("a conflict does not name its path: %v", err)
	}
}

// TestAFrozenAgentEndsNoWaitLate: every request has a deadline, and the caller's
// comes first.
func TestAFrozenAgentEndsNoWaitLate(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	d := a.documents("lightcone/identity/", false)
	c, err := Connect(Config{Address: a.Address, Token: d.client.Token(), Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	hasty := NewDocuments(c, "lightcone/identity", false) // with or without the slash
	version, err := hasty.Commit(t.Context(), document.Change{Path: "a"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	go func() {
		_, _, err := d.Wait(ctx, "a", version)
		ended <- err
	}()
	a.Freeze()
	began := time.Now()
	_, _, getErr := hasty.Get(t.Context(), "a")
	_, pathsErr := hasty.Paths(t.Context(), "")
	_, commitErr := hasty.Commit(t.Context(), document.Change{Path: "b"})
	if took := time.Since(began); getErr == nil || pathsErr == nil || commitErr == nil || took > 20*time.Second {
		t.Errorf("a frozen agent: %v, %v, %v after %v", getErr, pathsErr, commitErr, took)
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait ended with %v", err)
	}
	a.Thaw()
}

func TestARefusalWithoutAReasonIsNoConflict(t *testing.T) {
	for _, reasons := range []api.TxnErrors{nil, {{OpIndex: 7, What: "a new kind of trouble"}}, {{What: "index is stale"}, {OpIndex: -1, What: "permission denied"}}} {
		if err := whyRefused(reasons, []string{"a"}); err == nil || errors.Is(err, document.ErrConflict) {
			t.Errorf("%v: %v", reasons, err)
		}
	}
}
