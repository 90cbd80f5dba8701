package hosts

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// object is one of Terraform's, as JSON has it.
type object = map[string]any

// TestValidation checks that wrong input is refused, with a sentence, before
// anything is done.
func TestValidation(t *testing.T) {
	key, _ := newKey(t, filepath.Join(t.TempDir(), "key"))
	host := func(address, role string) object {
		return object{"address": address, "rack": "r1", "role": role}
	}
	good := object{
		"hosts":        object{"a": host("10.0.0.1", "server"), "b": host("10.0.0.2", "worker")},
		"ssh":          object{"private_key_path": key},
		"gossip_key":   gossipKey,
		"token_secret": tokenSecret,
		"consul_url":   "https://example.com/consul.zip", "consul_sha256": strings.Repeat("a", 64),
		"nomad_url": "https://example.com/nomad.zip", "nomad_sha256": strings.Repeat("b", 64),
	}
	cases := []struct {
		name    string
		changed object
		says    string // empty for input that is right
	}{
		{"all well", nil, ""},
		{"several roles", object{"hosts": object{"a": object{"address": "10.0.0.1", "rack": "r", "roles": []string{"server", "worker"}}}}, ""},
		{"an address twice", object{"hosts": object{"a": host("10.0.0.1", "server"), "b": host("10.0.0.1", "worker")}}, "Two hosts have the same address"},
		{"not an address", object{"hosts": object{"a": host("example.com", "server")}}, "correct that of a."},
		{"an unknown role", object{"hosts": object{"a": host("10.0.0.1", "server"), "b": host("10.0.0.2", "boss")}}, "a role is server, worker or edge"},
		{"two servers", object{"hosts": object{"a": host("10.0.0.1", "server"), "b": host("10.0.0.2", "server")}}, "an even number bears no more failures than one less"},
		{"no server", object{"hosts": object{"a": host("10.0.0.1", "worker")}}, "the role server is 1, 3 or 5"},
		{"no hosts", object{"hosts": object{}}, "the role server is 1, 3 or 5"},
		{"worker and edge", object{"hosts": object{"a": object{"address": "10.0.0.1", "rack": "r", "roles": []string{"server", "worker", "edge"}}}}, "A host is a worker or an edge and not both"},
		{"a role and roles", object{"hosts": object{"a": object{"address": "10.0.0.1", "rack": "r", "role": "server", "roles": []string{"edge"}}}}, "either a role or a set of roles, and not both; correct a."},
		{"no role", object{"hosts": object{"a": object{"address": "10.0.0.1", "rack": "r"}}}, "either a role or a set of roles"},
		{"no rack", object{"hosts": object{"a": object{"address": "10.0.0.1", "rack": " ", "role": "server"}}}, "A host's rack is not empty"},
		{"a bad name", object{"hosts": object{"A_1": host("10.0.0.1", "server")}}, "rename A_1."},
		{"no private key", object{"ssh": object{"private_key_path": "/nowhere/key"}}, "There is no private key at /nowhere/key"},
		{"a bad gossip key", object{"gossip_key": "short"}, "The gossip key is 32 bytes in base64"},
		{"a short secret", object{"token_secret": "short"}, "The token secret has at least 32 characters"},
		{"no Consul", object{"consul_url": nil}, "Give either consul_binary"},
		{"two Nomads", object{"nomad_binary": "/bin/true"}, "Give either nomad_binary"},
		{"an unchecked download", object{"nomad_sha256": nil}, "With nomad_url goes nomad_sha256"},
		{"another init", object{"init": "runit"}, "init is systemd or none"},
		{"a package with a space", object{"packages": []string{"curl; reboot"}}, "Packages are named as in Debian"},
	}
	m := newModule(t)
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			m.variables = maps.Clone(good)
			maps.Copy(m.variables, test.changed)
			said, err := m.with("plan", "-refresh=false")
			said = strings.Join(strings.Fields(strings.ReplaceAll(said, "│", " ")), " ") // Terraform wraps lines
			if (err == nil) != (test.says == "") || !strings.Contains(said, test.says) {
				t.Errorf("it went well: %v; want it to say %q; it said: %s", err == nil, test.says, said)
			}
		})
	}
}
