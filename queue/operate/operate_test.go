package operate

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience30 = 30 * time.Second // for what must happen

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience30); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so after %v: %s", patience30, what)
		}
	}
}

// morgue is a queue whose calls die of their first attempt, and the routes before it.
type morgue struct {
	*queue.Client
	*httptest.Server
	operator *Client
}

func openMorgue(t *testing.T) *morgue {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	node, err := queue.StartNode(queue.NodeConfig{Seat: "0", Dir: t.TempDir(), MaxStoreBytes: 1 << 30, Logger: logger, User: "test", Password: "a password"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	client, err := queue.Connect(queue.Config{InProcess: node, User: "test", Password: "a password", Name: "test", Logger: logger, Limits: queue.Limits{Attempts: 1, MaxBytes: 64 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	eventually(t, "the queue is ready", func() bool { return client.Ready() == nil })
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		err := client.Work(ctx, queue.WorkConfig{
			Function: "mortal", AtOnce: 4, Room: func() bool { return true },
			Run: func(context.Context, *functions.Call, *functions.Answer) error {
				return problem.New(problem.FunctionCrashed, "The function crashed.")
			},
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); working.Wait() })
	server := httptest.NewServer(Routes(client, logger))
	t.Cleanup(server.Close)
	operator, err := NewClient(server.URL, "the-operators-key")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(operator.Close)
	return &morgue{client, server, operator}
}

// die has a call of the tenant die.
func (m *morgue) die(t *testing.T, tenant lightcone.TenantID, body string) lightcone.CallID {
	t.Helper()
	id, err := lightcone.NewCallID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Accept(t.Context(), &functions.Queued{
		Call:    functions.Call{ID: id, Tenant: tenant, Function: "mortal", Query: []byte("width=300"), ContentType: []byte("text/html"), Body: []byte(body)},
		Timeout: time.Second, Callback: "https://example.com/done",
	})
	if err != nil {
		t.Fatal(err)
	}
	m.awaitDeath(t, tenant, id)
	return id
}

func (m *morgue) awaitDeath(t *testing.T, tenant lightcone.TenantID, id lightcone.CallID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience30)
	defer cancel()
	if found, err := m.Await(ctx, tenant, id); err != nil || found.Status != lightcone.InvocationDead {
		t.Fatalf("%+v, %v", found, err)
	}
}

func TestDeadLettersAreListedShownRedrivenAndDropped(t *testing.T) {
	m := openMorgue(t)
	if letters, next, err := m.operator.List(t.Context(), "", ""); err != nil || len(letters) > 0 || next != "" {
		t.Fatalf("before anybody died: %v %q, %v", letters, next, err)
	}
	first, second, third := m.die(t, "acme", "one"), m.die(t, "other", "two"), m.die(t, "acme", "three")
	idsOf := func(tenant lightcone.TenantID, after string) string {
		t.Helper()
		letters, _, err := m.operator.List(t.Context(), tenant, after)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, letter := range letters {
			ids = append(ids, letter.ID)
		}
		return strings.Join(ids, " ")
	}
	if got, want := idsOf("", ""), first.String()+" "+second.String()+" "+third.String(); got != want {
		t.Errorf("all: %s, want %s", got, want)
	}
	if got, want := idsOf("acme", ""), first.String()+" "+third.String(); got != want {
		t.Errorf("acme's: %s, want %s", got, want)
	}
	if got := idsOf("", second.String()); got != third.String() {
		t.Errorf("after the second: %s, want %s", got, third)
	}
	response, err := m.Server.Client().Get(m.URL + "/v1/deadletters?limit=2")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if !bytes.Contains(body, []byte(`"next":"`+second.String()+`"`)) || bytes.Contains(body, []byte(third.String())) {
		t.Errorf("the first page of two: %s", body)
	}

	letter, err := m.operator.Show(t.Context(), first)
	if err != nil || letter.Tenant != "acme" || letter.Function != "mortal" || letter.Attempts != 1 || letter.Redriven != 0 || letter.Query != "width=300" ||
		letter.InputBytes != 3 || letter.Callback != "https://example.com/done" || letter.Timeout != "1s" || !strings.Contains(letter.Error, "crashed") || letter.DiedAt.Before(letter.CreatedAt) {
		t.Errorf("%+v, %v", letter, err)
	}
	if input, err := m.operator.Input(t.Context(), first); err != nil || string(input) != "one" {
		t.Errorf("its input: %q, %v", input, err)
	}

	if err := m.operator.Redrive(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has died again", func() bool {
		again, err := m.operator.Show(t.Context(), first)
		return err == nil && again.Redriven == 1
	})
	if err := m.operator.Drop(t.Context(), first); err != nil {
		t.Error(err)
	}
	for name, act := range map[string]func() error{
		"show":    func() error { _, err := m.operator.Show(t.Context(), first); return err },
		"input":   func() error { _, err := m.operator.Input(t.Context(), first); return err },
		"redrive": func() error { return m.operator.Redrive(t.Context(), first) },
		"drop":    func() error { return m.operator.Drop(t.Context(), first) },
	} {
		if err := act(); problem.Of(err).Kind != problem.NotFound {
			t.Errorf("%s of one that is gone: %v", name, err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	m := openMorgue(t)
	id := m.die(t, "acme", "<script>").String()
	for _, test := range []struct {
		method, path string
		site         string // Sec-Fetch-Site
		status       int
		says         string
	}{
		{"GET", "/v1/deadletters?limit=0", "", 400, "limit"},
		{"GET", "/v1/deadletters?limit=101", "", 400, "limit"},
		{"GET", "/v1/deadletters?limit=many", "", 400, "limit"},
		{"GET", "/v1/deadletters?after=1", "", 400, "after"},
		{"GET", "/v1/deadletters?tenant=A", "", 400, "tenant"},
		{"GET", "/v1/deadletters?tenant=*", "", 400, "tenant"},
		{"GET", "/v1/deadletters?tenants=a", "", 400, "tenants"},
		{"GET", "/v1/deadletters?after=&after=", "", 400, "times"},
		{"GET", "/v1/deadletters?%zz", "", 400, "query"},
		{"GET", "/v1/deadletters/" + strings.ToLower(id), "", 404, "no dead letter"},
		{"GET", "/v1/deadletters/" + strings.Repeat("x", 1000), "", 404, "no dead letter"},
		{"POST", "/v1/deadletters/7ZZZZZZZZZZZZZZZZZZZZZZZZZ/redrive", "", 404, "no dead letter"},
		{"POST", "/v1/deadletters/" + id, "", 404, "no such route"},
		{"DELETE", "/v1/deadletters", "", 404, "no such route"},
		{"DELETE", "/v1/deadletters/" + id, "cross-site", 403, "another site"},
		{"GET", "/v1/deadletters/" + id + "/input", "", 200, "<script>"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, m.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.site != "" {
			request.Header.Set("Sec-Fetch-Site", test.site)
		}
		response, err := m.Server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != test.status || !strings.Contains(string(body), test.says) || len(body) > 1000 {
			t.Errorf("%s %s: %s %s", test.method, test.path, response.Status, body)
		}
		kind := response.Header.Get("Content-Type")
		if test.status != 200 && kind != "application/problem+json" || test.status == 200 && (kind != "application/octet-stream" || !strings.HasPrefix(response.Header.Get("Content-Disposition"), "attachment")) {
			t.Errorf("%s %s: a %s", test.method, test.path, kind)
		}
	}
	if _, err := NewClient("http://me:secret@127.0.0.1", "key"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("an address with a password: %v", err)
	}
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	lost, err := NewClient(elsewhere.URL, "key")
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close()
	if _, _, err := lost.List(t.Context(), "", ""); err == nil || !strings.Contains(err.Error(), "management listener") {
		t.Errorf("another server: %v", err)
	}
}
