package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lightcone"
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

func TestAKeyOpensForItselfAlone(t *testing.T) {
	key, other := keyFrom(t, 1), keyFrom(t, 2)
	for presented, want := range map[string]bool{
		key.Text(): true, other.Text(): false, "": false, "lc_": false,
		key.Text()[:keyLength-1]: false, key.Text() + "A": false,
		key.Text()[:keyLength-secretLength] + other.Text()[keyLength-secretLength:]: false,
		other.Text()[:keyLength-secretLength] + key.Text()[keyLength-secretLength:]: false,
		"lc_" + strings.ToUpper(key.Text()[3:19]) + key.Text()[19:]:                 false,
	} {
		if got := key.Opens([]byte(presented)); got != want {
			t.Errorf("%q opens: %v", presented, got)
		}
	}
	if (Key{}).Opens(nil) {
		t.Error("no key opens for nothing")
	}
}

func TestRecordsThatCannotBeUsed(t *testing.T) {
	good := Record{ID: keyFrom(t, 5).ID(), Tenant: "demo"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		record Record
		want   string
	}{
		{"a bad id", Record{ID: "short", Tenant: "demo"}, "key id"},
		{"an id with an underscore", Record{ID: "aaaaaaaaaaaaaaa_", Tenant: "demo"}, "key id"},
		{"a bad tenant", Record{ID: good.ID, Tenant: "Demo!"}, "tenant"},
		{"a bad scope", Record{ID: good.ID, Tenant: "demo", Scopes: Scopes{Functions: []lightcone.FunctionName{"no/slash"}}}, "scopes"},
		{"all and some", Record{ID: good.ID, Tenant: "demo", Scopes: Scopes{All: true, Functions: []lightcone.FunctionName{"resize"}}}, "choose one"},
	} {
		if err := test.record.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error about %q", test.name, err, test.want)
		}
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
