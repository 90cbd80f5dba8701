package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestCallIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id lightcone.CallID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if got, err := parseCallID([]byte(id.String())); err != nil || got != id {
			t.Errorf("%s read as %s, %v", id, got, err)
		}
	})
	for _, bad := range []string{"", "01M854NZSJK9NAECQBKF3HM52", "81M854NZSJK9NAECQBKF3HM523", "01M854NZSJK9NAECQBKF3HM52U", "01m854nzsjk9naecqbkf3hm523"} {
		if _, err := parseCallID([]byte(bad)); err == nil {
			t.Errorf("%q was read as a call's id", bad)
		}
	}
}

func TestRemainingTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := time.Duration(rapid.Int64Range(1, int64(maxRemaining)).Draw(t, "remaining"))
		got, err := parseRemaining(appendRemaining(nil, sent))
		if err != nil || got != max(sent.Truncate(time.Microsecond), time.Microsecond) {
			t.Errorf("%v arrived as %v, %v", sent, got, err)
		}
	})
	for _, bad := range []string{"", "0", "-1", "+1", "1.5", "1e3", "99999999999999999999", "9223372036854775807", "2026-01-01T00:00:00Z"} {
		if got, err := parseRemaining([]byte(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestLoadInJSON(t *testing.T) {
	load := Load{Draining: true, Functions: []FunctionLoad{
		{Name: "resize", Slots: 3, Busy: 2, DefaultTimeout: 10 * time.Second, MaxTimeout: time.Minute, MaxBodyBytes: 20 << 20},
	}}
	const want = `{"draining":true,"functions":[{"name":"resize","slots":3,"busy":2,"default_timeout_ms":10000,"max_timeout_ms":60000,"max_body_bytes":20971520}]}`
	text, err := json.Marshal(load)
	if err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	var back Load
	if err := json.Unmarshal(text, &back); err != nil || !cmp.Equal(load, back) {
		t.Error(err, cmp.Diff(load, back))
	}
	for _, change := range [][2]string{
		{`"resize"`, `"Re size"`}, {`"slots":3`, `"slots":-1`}, {`"busy":2`, `"busy":99999999`}, {`10000`, `0`},
		{`60000`, `9999`}, {`60000`, `9223372036854775807`}, {`20971520`, `0`}, {`true`, `1`},
	} {
		if err := json.Unmarshal([]byte(strings.Replace(want, change[0], change[1], 1)), &back); err == nil {
			t.Errorf("a load with %s was accepted", change[1])
		}
	}
}

func TestPulse(t *testing.T) {
	start := time.Unix(1000, 0)
	never, seen := pulse{lostAfter: time.Second}, pulse{lostAfter: time.Second, seen: start}
	if never.lost(start.Add(time.Hour)) || seen.lost(start.Add(time.Second-1)) || !seen.lost(start.Add(time.Second)) {
		t.Error("a worker is lost a second after it was seen, and not before it was seen at all")
	}
	for _, test := range []struct {
		p         pulse
		now, want time.Duration
	}{{never, 5 * time.Second, 300}, {seen, 0, 300}, {seen, 800, 200}, {seen, 2000, 300}} {
		if test.now < time.Second {
			test.now *= time.Millisecond
		}
		if got := test.p.within(300*time.Millisecond, start.Add(test.now)); got != test.want*time.Millisecond {
			t.Errorf("at %v: %v, want %v ms", test.now, got, int64(test.want))
		}
	}
	if jitter(100, 0) != 75 || jitter(100, 0.5) != 100 {
		t.Error("jitter is a quarter to either side")
	}
}

// talk sends bytes to a worker and reads what comes until it closes.
func talk(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	said, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%.40q: %v", text, err)
	}
	return string(said)
}

func TestHostileRequests(t *testing.T) {
	_, address := serve(t, ServerConfig{Runner: newRunner(func(*functions.Call, *functions.Answer) error {
		t.Error("it was run")
		return nil
	})})
	const id = "X-Call-Id: 01M854NZSJK9NAECQBKF3HM523\r\nLightcone-Tenant: acme\r\n"
	for _, test := range []struct{ sent, want string }{
		{"", ""},
		{"\x16\x03\x01\x02\x00", ""},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n", ""},
		{"hello\r\n\r\n", "HTTP/1.1 400"},
		{"GET /load HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", headerBytes) + "\r\n\r\n", "HTTP/1.1 431"},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n" + id + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "HTTP/1.1 411"},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n" + id + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 411"},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n" + id + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "HTTP/1.1 400"},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n" + id + "Content-Length: 5\r\n\r\nabc", ""},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n" + id + "Content-Length: 9999999999\r\n\r\nabc", "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\n"},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 400"},
		{"POST /call/echo HTTP/1.1\r\nHost: a\r\n" + id + "Lightcone-Deadline: 0\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 400"},
		{"POST /call/../load HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 404"},
		{"HEAD /load HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405"},
	} {
		if got := talk(t, address, test.sent); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%.80q was answered %.200q, want %q", test.sent, got, test.want)
		}
	}
}

// TestExpectContinue: curl asks before it sends a long body.
func TestExpectContinue(t *testing.T) {
	_, address := serve(t, ServerConfig{Runner: newRunner(echo)})
	const request = "POST /call/echo HTTP/1.1\r\nHost: a\r\nX-Call-Id: 01M854NZSJK9NAECQBKF3HM523\r\nLightcone-Tenant: acme\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
	got := talk(t, address, request)
	if !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nabc") {
		t.Errorf("answered %q", got)
	}
}

// answerOf lets a client read what a worker sent.
func answerOf(sent []byte) (*functions.Answer, error) {
	conn := &clientConn{reader: bufio.NewReaderSize(bytes.NewReader(sent), headerBytes)}
	answer := new(functions.Answer)
	if err := conn.read(answer); err != nil {
		return answer, err
	}
	return answer, (&Client{}).verdict(conn)
}

func TestHostileAnswers(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nLightcone-Outcome: answered\r\nLightcone-Status: 200\r\nLightcone-Cpu: 7\r\nContent-Length: 2\r\n\r\nok"
	if answer, err := answerOf([]byte(good)); err != nil || string(answer.Body) != "ok" || answer.CPU != 7 {
		t.Fatalf("a good answer: %+v, %v", answer, err)
	}
	for _, change := range [][2]string{
		{good, ""}, {good, "\x00\x00\x00"}, {good, "HTTP/1.1 200 OK\r\nLightcone-"}, {"Outcome: answered", "Outcome: maybe"}, {"Lightcone-Outcome: answered\r\n", ""},
		{"Lightcone-Status: 200\r\n", ""}, {"Status: 200", "Status: -1"}, {"Cpu: 7", "Cpu: -7"}, {"Cpu: 7", "Cpu: 99999999999999999999"},
		{"Content-Length: 2", "Content-Length: 3"}, {"Content-Length: 2", "Content-Length: 67108865"}, {"Content-Length: 2", "Content-Length: -2"},
		{"Content-Length: 2\r\n", ""}, {"Content-Length: 2", "Transfer-Encoding: chunked"}, {"answered", "refused"},
		{"OK\r\n", "OK\r\nX: " + strings.Repeat("x", headerBytes) + "\r\n"},
	} {
		sent := strings.Replace(good, change[0], change[1], 1)
		answer, err := answerOf([]byte(sent))
		var found *problem.Error
		if err == nil || errors.As(err, &found) {
			t.Errorf("%.200q was taken for %+v, %v", sent, answer, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAnAnswersLengthIsBounded(t *testing.T) {
	for length, good := range map[int]bool{-2: false, -1: false, 0: true, 5 << 20: true, 5<<20 + 1: false} {
		if body, err := readBody(endless{}, []byte("kept"), length, 5<<20); (err == nil) != good || good && len(body) != length+4 {
			t.Errorf("length %d: %d bytes, %v", length, len(body), err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nLightcone-Outcome: answered\r\nLightcone-Status: 200\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 503 No\r\nLightcone-Outcome: refused\r\nLightcone-Problem: overloaded\r\nLightcone-Retry-After: 5\r\nContent-Length: 3\r\n\r\nNo."))
	f.Fuzz(func(t *testing.T, sent []byte) {
		answer, err := answerOf(sent)
		if err == nil && len(answer.Body) > len(sent) {
			t.Errorf("%d bytes became a body of %d", len(sent), len(answer.Body))
		}
		if answer.CPU < 0 || answer.Exec < 0 || cap(answer.Body) > len(sent)+2*growth {
			t.Errorf("answer with CPU %v, exec %v, room for %d bytes", answer.CPU, answer.Exec, cap(answer.Body))
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"draining":true,"functions":[{"name":"resize","slots":3,"busy":2,"default_timeout_ms":10000,"max_timeout_ms":60000,"max_body_bytes":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var load Load
		if json.Unmarshal(text, &load) != nil {
			return
		}
		for _, o := range load.offers(true) {
			if o.Slots < 0 || o.ColdStart < 0 || o.Spec.DefaultTimeout <= 0 || o.Spec.MaxTimeout < o.Spec.DefaultTimeout || o.Spec.Name.Validate() != nil {
				t.Errorf("offer %+v", o)
			}
		}
	})
}
