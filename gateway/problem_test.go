package gateway

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"

	"lightcone/internal/problem"
)

// TestEveryKindHasARow reads the kinds from their source, so that a new one
// cannot be forgotten here.
func TestEveryKindHasARow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/problem/problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[problem.Kind]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Kind" {
			return true
		}
		for _, value := range spec.Values {
			text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared[problem.Kind(text)] = true
		}
		return true
	})
	if len(declared) < 18 {
		t.Fatalf("found only %d kinds in the source", len(declared))
	}
	for kind := range declared {
		if _, found := rows[kind]; !found {
			t.Errorf("kind %s has no status", kind)
		}
	}
	for kind, row := range rows {
		if !declared[kind] {
			t.Errorf("kind %s has a status, but is not declared", kind)
		}
		if row.status < 400 || row.status > 599 || row.title == "" {
			t.Errorf("kind %s: status %d, title %q", kind, row.status, row.title)
		}
	}
}

func TestProblemDocumentIsJSONWhateverItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		detail := string(rapid.SliceOf(rapid.Byte()).Draw(t, "detail"))
		var response fasthttp.Response
		writeProblem(&response, &problem.Error{Kind: problem.CorruptInput, Detail: detail}, function, "ID", 0)
		var got document
		if err := json.Unmarshal(response.Body(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Status != 422 || got.Type != "urn:lightcone:problem:corrupt-input" || got.Instance != "urn:lightcone:call:ID" {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestRetrySeconds(t *testing.T) {
	for _, test := range []struct {
		after  time.Duration
		random float64
		want   int64
	}{
		{0, 0, 1},
		{0, .99, 2},
		{10 * time.Millisecond, 0, 1},
		{1001 * time.Millisecond, 0, 2},
		{10 * time.Second, 0, 10},
		{10 * time.Second, .999, 16},
		{time.Hour, 0, 3600},
		{-time.Second, 0, 1},
	} {
		if got := retrySeconds(test.after, test.random); got != test.want {
			t.Errorf("%v with %v: got %d s, want %d s", test.after, test.random, got, test.want)
		}
	}
}

func TestServerTiming(t *testing.T) {
	got := string(appendTiming(nil, 1234567*time.Nanosecond, 12*time.Second, -time.Second))
	if want := "queue;dur=1.234, exec;dur=12000.000, cpu;dur=0.000"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
