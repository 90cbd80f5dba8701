package quarantine

import (
	"io"
	"log/slog"
	"testing"

	"lightcone/consul"
	"lightcone/internal/document"
	"lightcone/internal/testbed"
)

// TestGatewaysShareConsul: the same in a region, with a client of each gateway's own;
// and a killed Consul is a store that is away.
func TestGatewaysShareConsul(t *testing.T) {
	server := testbed.StartConsul(t, testbed.ConsulConfig{})
	open := func() document.Store {
		client, err := consul.Connect(consul.Config{Address: server.Address, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return consul.NewDocuments(client, "lightcone/", false)
	}
	checkSharing(t, open)

	one, two := newGateway(t, open(), io.Discard, nil), newGateway(t, open(), io.Discard, nil)
	server.Kill()
	one.Strike(callOf("dark", 1))
	one.Strike(callOf("dark", 2))
	if !one.refuses("dark") {
		t.Error("without Consul, the gateway does not count for itself")
	}
	server.Restart()
	eventually(t, "the other gateway knows when Consul is back", func() bool { return two.refuses("dark") })
}
