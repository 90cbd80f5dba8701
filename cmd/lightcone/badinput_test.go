package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hugePNG is a PNG that says it is width by height and has a few bytes of data.
func hugePNG(width, height uint32) []byte {
	header := make([]byte, 13)
	binary.BigEndian.PutUint32(header, width)
	binary.BigEndian.PutUint32(header[4:], height)
	header[8], header[9] = 8, 2 // 8 bits, RGB
	out := []byte("\x89PNG\r\n\x1a\n")
	for _, chunk := range []struct {
		name string
		data []byte
	}{{"IHDR", header}, {"IDAT", []byte("x\x9c\x03\x00\x00\x00\x00\x01")}, {"IEND", nil}} {
		named := append([]byte(chunk.name), chunk.data...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(chunk.data)))
		out = append(out, named...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(named))
	}
	return out
}

// The whole tree is fed what the outside might feed it. Afterwards it answers,
// no slot is lost, and nothing has grown.
func TestDevSurvivesBadInput(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"))
	good := readBytes(t, photo)
	noise := make([]byte, 100_000)
	for i, random := 0, rand.New(rand.NewPCG(1, 2)); i < len(noise); i++ {
		noise[i] = byte(random.Uint32())
	}
	flipped := bytes.Clone(good)
	for i := len(flipped) / 2; i < len(flipped)/2+300; i += 7 {
		flipped[i] ^= 0x55
	}
	d.post(t, "width=300", good, nil) // warm
	before := residentMiB(t, d.command.Process.Pid)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name   string
		query  string
		body   []byte
		change func(*http.Request)
		status int
		kind   string
		detail string // a part of it
	}{
		{"zero bytes", "width=300", nil, nil, 415, "unsupported-media", "empty"},
		{"one byte", "width=300", []byte{0xff}, nil, 415, "unsupported-media", ""},
		{"random bytes", "width=300", noise, nil, 415, "unsupported-media", ""},
		{"HTML", "width=300", []byte("<!doctype html><title>x</title>"), nil, 415, "unsupported-media", "HTML"},
		{"half a photograph", "width=300", good[:len(good)/2], nil, 422, "corrupt-input", ""},
		{"a bit-flipped photograph", "width=300", flipped, nil, 422, "corrupt-input", ""},
		{"a PNG of 60 000 by 60 000", "width=300", hugePNG(60_000, 60_000), nil, 422, "too-many-pixels", "60000"},
		{"21 MiB", "width=300", make([]byte, 21<<20), nil, 413, "too-large", ""},
		{"width=-1", "width=-1", good, nil, 400, "bad-parameter", "width"},
		{"width=1e9", "width=1e9", good, nil, 400, "bad-parameter", "width"},
		{"an unknown parameter", "widht=300", good, nil, 400, "bad-parameter", "widht"},
		{"a wrong content type", "width=300", good, header("Content-Type", "text/html"), 200, "", ""},
		{"no key", "width=300", good, header("Authorization", ""), 401, "unauthenticated", ""},
		{"a key nobody issued", "width=300", good, header("Authorization", "Bearer lc_x_y"), 401, "unauthenticated", ""},
		{"a timeout that is none", "width=300", good, header("X-Timeout", "soon"), 400, "bad-parameter", "X-Timeout"},
		{"a deadline that cannot be met", "width=2000&format=avif", good, header("X-Timeout", "60ms"), 504, "deadline-exceeded", ""},
		{"a good photograph", "width=300", good, nil, 200, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, body := d.post(t, test.query, test.body, test.change)
			if response.StatusCode != test.status {
				t.Fatalf("%s: %.300s", response.Status, body)
			}
			if response.Header.Get("X-Call-Id") == "" {
				t.Error("the answer has no X-Call-Id")
			}
			if test.status == 200 {
				return
			}
			var document struct{ Type, Title, Detail string }
			if err := json.Unmarshal(body, &document); err != nil || document.Type != "urn:lightcone:problem:"+test.kind || !strings.Contains(document.Detail, test.detail) {
				t.Errorf("the problem document is %s (%v)", body, err)
			}
			if kind := response.Header.Get("Content-Type"); kind != "application/problem+json" {
				t.Errorf("it comes as %s", kind)
			}
		})
	}
	t.Run("clients that stop half way", func(t *testing.T) {
		for range 20 {
			conn := d.dial(t, "width=300", len(good))
			if _, err := conn.Write(good[:len(good)/2]); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
	})
	t.Run("a client that reads a byte at a time", func(t *testing.T) {
		conn := d.dial(t, "width=2400&format=png", len(good))
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write(good); err != nil {
			t.Fatal(err)
		}
		slow := bufio.NewReaderSize(conn, 16)
		if line, err := slow.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
		for range 10 { // others do not feel it
			if _, err := slow.ReadByte(); err != nil {
				t.Fatal(err)
			}
			if response, body := d.post(t, "width=300", good, nil); response.StatusCode != 200 {
				t.Fatalf("meanwhile: %s %.200s", response.Status, body)
			}
		}
	})
	within(t, "every slot and the spare are ready", func() bool {
		status := d.status(t)
		return status.Idle == status.Slots+1
	})
	if status := d.status(t); status.Crashes != 0 {
		t.Errorf("bad input crashed %d processes", status.Crashes)
	}
	if after := residentMiB(t, d.command.Process.Pid); after > before+64 {
		t.Errorf("the gateway grew from %d to %d MiB", before, after)
	}
}

// dial opens a connection and sends a call's headers.
func (d *devTree) dial(t *testing.T, query string, length int) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", d.api, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST /function/resize?%s HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		query, strings.TrimSpace(string(readBytes(t, filepath.Join(d.data, "demo.key")))), length)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func residentMiB(t *testing.T, pid int) int {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize() >> 20
}
