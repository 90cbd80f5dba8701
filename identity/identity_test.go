package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/internal/problem"
)

// keyFrom makes a key out of 42 equal bytes.
func keyFrom(t testing.TB, fill byte) Key {
	t.Helper()
	key, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{fill}, idBytes+secretBytes)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ringOf(t testing.TB, records ...Record) *Keyring {
	t.Helper()
	ring, err := NewKeyring(records)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestAuthorize(t *testing.T) {
	all, one, stranger := keyFrom(t, 1), keyFrom(t, 2), keyFrom(t, 3)
	ring := ringOf(t,
		Record{ID: all.ID(), Digest: all.Digest(), Tenant: "demo", Scopes: Scopes{All: true}},
		Record{ID: one.ID(), Digest: one.Digest(), Tenant: "acme", Scopes: Scopes{Functions: []lightcone.FunctionName{"resize"}}},
	)
	wrongSecret := all.Text()[:keyLength-secretLength] + one.Text()[keyLength-secretLength:]
	for _, test := range []struct {
		name      string
		presented string
		function  lightcone.FunctionName
		tenant    lightcone.TenantID
		kind      problem.Kind
	}{
		{"all scopes", all.Text(), "echo", "demo", ""},
		{"in scope", one.Text(), "resize", "acme", ""},
		{"out of scope", one.Text(), "echo", "", problem.Forbidden},
		{"unknown", stranger.Text(), "resize", "", problem.Unauthenticated},
		{"wrong secret", wrongSecret, "resize", "", problem.Unauthenticated},
		{"empty", "", "resize", "", problem.Unauthenticated},
		{"prefix only", "lc_", "resize", "", problem.Unauthenticated},
		{"cut short", all.Text()[:keyLength-1], "resize", "", problem.Unauthenticated},
		{"too long", all.Text() + "A", "resize", "", problem.Unauthenticated},
		{"upper case id", "lc_" + strings.ToUpper(all.Text()[3:19]) + all.Text()[19:], "resize", "", problem.Unauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			tenant, quota, err := ring.Authorize([]byte(test.presented), test.function)
			if tenant != test.tenant {
				t.Errorf("tenant: got %q, want %q", tenant, test.tenant)
			}
			if err == nil && quota != lightcone.Unlimited {
				t.Errorf("quota: got %+v, want none", quota)
			}
			if test.kind == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if err == nil || problem.Of(err).Kind != test.kind {
				t.Fatalf("got %v, want a %s", err, test.kind)
			}
			detail := problem.Of(err).Detail
			if test.kind == problem.Forbidden && !strings.Contains(detail, string(test.function)) {
				t.Errorf("%q does not name the function %s", detail, test.function)
			}
			if test.kind == problem.Unauthenticated {
				if diff := cmp.Diff(Unauthenticated().Detail, detail); diff != "" {
					t.Errorf("refusals differ, and so tell what was wrong (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAuthenticatedCaller(t *testing.T) {
	key := keyFrom(t, 9)
	ring := ringOf(t, Record{ID: key.ID(), Digest: key.Digest(), Tenant: "demo"})
	caller, err := ring.Authenticate([]byte(key.Text()))
	if err != nil {
		t.Fatal(err)
	}
	if caller.Key != key.ID() || caller.Tenant != "demo" {
		t.Errorf("got %+v, want tenant demo with key %s", caller, key.ID())
	}
	if err := caller.May("resize"); problem.Of(err).Kind != problem.Forbidden {
		t.Errorf("a key without scopes: got %v, want it forbidden", err)
	}
}

func TestKeyringRefuses(t *testing.T) {
	key := keyFrom(t, 5)
	good := Record{ID: key.ID(), Digest: key.Digest(), Tenant: "demo"}
	for _, test := range []struct {
		name    string
		records []Record
		want    string
	}{
		{"the same id twice", []Record{good, good}, "twice"},
		{"a bad id", []Record{{ID: "short", Tenant: "demo"}}, "key id"},
		{"an id with an underscore", []Record{{ID: "aaaaaaaaaaaaaaa_", Tenant: "demo"}}, "key id"},
		{"a bad tenant", []Record{{ID: good.ID, Tenant: "Demo!"}}, "tenant"},
		{"a bad scope", []Record{{ID: good.ID, Tenant: "demo", Scopes: Scopes{Functions: []lightcone.FunctionName{"no/slash"}}}}, "scopes"},
		{"all and some", []Record{{ID: good.ID, Tenant: "demo", Scopes: Scopes{All: true, Functions: []lightcone.FunctionName{"resize"}}}}, "choose one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := NewKeyring(test.records); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}

func TestKeyringKeepsItsOwnScopes(t *testing.T) {
	key := keyFrom(t, 6)
	scopes := []lightcone.FunctionName{"resize"}
	ring := ringOf(t, Record{ID: key.ID(), Digest: key.Digest(), Tenant: "demo", Scopes: Scopes{Functions: scopes}})
	scopes[0] = "echo"
	if _, _, err := ring.Authorize([]byte(key.Text()), "echo"); err == nil {
		t.Error("changing the slice after the fact changed what the key may do")
	}
}

func TestAuthorizeAllocatesNothing(t *testing.T) {
	key := keyFrom(t, 7)
	ring := ringOf(t, Record{ID: key.ID(), Digest: key.Digest(), Tenant: "demo", Scopes: Scopes{All: true}})
	presented := []byte(key.Text())
	allocations := testing.AllocsPerRun(100, func() {
		if _, _, err := ring.Authorize(presented, "resize"); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("got %v allocations per call, want none", allocations)
	}
}

func TestNewKeyNeedsRandomness(t *testing.T) {
	if _, err := NewKey(strings.NewReader("too little")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want an unexpected EOF", err)
	}
}

func TestPrintingAKeyHidesItsSecret(t *testing.T) {
	key := keyFrom(t, 8)
	secret := key.Text()[keyLength-secretLength:]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, key); strings.Contains(text, secret) || !strings.Contains(text, string(key.ID())) {
			t.Errorf("%s prints %q: want the id and not the secret", verb, text)
		}
	}
}

func TestKeysSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), idBytes+secretBytes, idBytes+secretBytes).Draw(t, "random")
		key, err := NewKey(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := key.ID().Validate(); err != nil {
			t.Fatal(err)
		}
		again, err := ParseKey([]byte(key.Text()))
		if err != nil || again != key {
			t.Fatalf("%s parsed to %s, %v", key.Text(), again.Text(), err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(keyFrom(f, 1).Text()))
	f.Add([]byte("lc_"))
	f.Add([]byte("lc_aaaaaaaaaaaaaaaa_" + strings.Repeat("_", secretLength)))
	f.Add(bytes.Repeat([]byte{'_'}, keyLength))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParseKey(text)
		if err != nil {
			return
		}
		if key.Text() != string(text) {
			t.Errorf("%q parsed as %q", text, key.Text())
		}
		if err := key.ID().Validate(); err != nil {
			t.Error(err)
		}
	})
}
