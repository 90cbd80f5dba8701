package gateway

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// TestNoSecretReachesTheLog says everything that can be said wrong, with a key in it, to a
// gateway that logs all it can: the key is in no line, and in no answer.
func TestNoSecretReachesTheLog(t *testing.T) {
	var logs testbed.Log
	w := &worker{run: func(call *functions.Call, answer *functions.Answer) error {
		switch string(call.Query) {
		case "panic":
			panic("a bug")
		case "crash":
			return problem.New(problem.FunctionCrashed, "It crashed.")
		}
		return echo(call, answer)
	}}
	w.offer(echoOffer(1))
	config := DefaultConfig()
	config.MaxHeaderBytes = 8 << 10
	g, err := New(config, w, keys{}, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{Gateway: g, address: listener.Addr().String(), client: &http.Client{}, ended: make(chan error, 1)}
	go func() { s.ended <- g.Serve(listener) }()
	t.Cleanup(func() { s.stop(t) })
	door := s.serveTLS(t, &logs)

	const wrongKey = "lc_wrong_almost-a-good-key"
	said := []string{
		"CALLContent-Length: 2\n\nok",
		"POST /function/echo?panic HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "\n\n",
		"POST /function/echo?crash HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer " + wrongKey + "\n\n",
		"POST /function/forbidden HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "\nX-Timeout: soon\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "␀\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer\n " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nAuthorization : Bearer " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nAuthorization Bearer " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nBearer␀" + testKey + ": x\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nContent-Length: " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nTransfer-Encoding: " + testKey + "\n\n",
		"POST /function/echo HTTP/1.1\nHost: a\nTrailer: Authorization, " + testKey + "\n\n",
		"POST /function/echo?key=" + testKey + "␀ HTTP/1.1\nHost: a\n\n",
		"POST /function/echo HTTP/" + testKey + "\nHost: a\n\n",
		testKey + "␀ /function/echo HTTP/1.1\nHost: a\n\n",
		"POST\nAuthorization: Bearer " + testKey + "\n\n",
		"CALLX: " + strings.Repeat("a", 9<<10) + "\n\n",
		"CALLExpect: 100-continue\nContent-Length: 99999999\n\n",
	}
	for _, request := range malformedRequests {
		said = append(said, request)
	}
	for _, dial := range []func(testing.TB) *raw{s.dial, door.dial} {
		for _, request := range said {
			client := dial(t)
			if _, err := io.WriteString(client, exactly.Replace(request)); err != nil {
				t.Fatal(err)
			}
			client.halfClose()
			answer, _ := io.ReadAll(client.reader) // however it ends
			if len(answer) == 0 || strings.Contains(string(answer), testKey) || strings.Contains(string(answer), wrongKey) {
				t.Errorf("%.100q is answered with %s", request, answer)
			}
		}
	}
	raw, err := net.Dial("tcp", door.address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, _ = io.WriteString(raw, exactly.Replace("CALL\n"))
	_, _ = io.ReadAll(raw)
	s.stop(t)
	if text := logs.String(); strings.Contains(text, testKey) || strings.Contains(text, wrongKey) || strings.Contains(text, "Bearer") {
		for line := range strings.Lines(text) {
			if strings.Contains(line, testKey) || strings.Contains(line, wrongKey) || strings.Contains(line, "Bearer") {
				t.Errorf("the log shows a key: %s", line)
			}
		}
	} else if strings.Count(text, "\n") < len(said) {
		t.Errorf("the log has nothing of most of this:\n%s", text)
	}
}
