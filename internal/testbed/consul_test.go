package testbed

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPorts(t *testing.T) {
	ports := Ports(t, 50)
	for _, port := range ports {
		if port < 10_000 || port >= 32_000 {
			t.Errorf("port %d", port)
		}
		listener, err := net.Listen("tcp", loopback(port))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	slices.Sort(ports)
	if distinct := len(slices.Compact(ports)); distinct != 50 {
		t.Errorf("%d distinct ports", distinct)
	}
	if ports, err := FreePorts(2000); err == nil {
		t.Errorf("%d ports after 1000 tries", len(ports))
	}
}

// ask sends a request to Consul, and returns the status (0: no answer within 2 s) and the body.
func ask(t *testing.T, c *Consul, method, path, body, token string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.Address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", token)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

func TestConsulKeepsItsDataAndIsFrozen(t *testing.T) {
	t.Parallel()
	c := StartConsul(t, ConsulConfig{ACL: true})
	if status, _ := ask(t, c, http.MethodPut, "/v1/kv/a", "1", ""); status != http.StatusForbidden {
		t.Errorf("nobody writes: %d", status)
	}
	if status, said := ask(t, c, http.MethodPut, "/v1/kv/a", "1", ManagementToken); status != http.StatusOK || said != "true" {
		t.Fatal(status, said)
	}
	c.Freeze()
	if status, _ := ask(t, c, http.MethodGet, "/v1/kv/a?raw", "", ManagementToken); status != 0 {
		t.Errorf("a frozen server answers %d", status)
	}
	c.Thaw()
	c.Kill()
	if status, _ := ask(t, c, http.MethodGet, "/v1/kv/a?raw", "", ManagementToken); status != 0 {
		t.Errorf("a killed server answers %d", status)
	}
	c.Restart()
	if status, said := ask(t, c, http.MethodGet, "/v1/kv/a?raw", "", ManagementToken); status != http.StatusOK || said != "1" {
		t.Errorf("after its restart: %d, %s", status, said)
	}
}

func TestConsulWithoutACLs(t *testing.T) {
	t.Parallel()
	c := StartConsul(t, ConsulConfig{})
	if status, said := ask(t, c, http.MethodPut, "/v1/kv/a", "1", ""); status != http.StatusOK || said != "true" {
		t.Error(status, said)
	}
}
