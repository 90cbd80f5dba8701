package wire

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone/functions"
)

// Both benchmarks: one hop over loopback, 256 KB there and 8 KB back.
const (
	benchmarkInput  = 256 << 10
	benchmarkOutput = 8 << 10
)

func BenchmarkHop(b *testing.B) {
	output := bytes.Repeat([]byte("o"), benchmarkOutput)
	_, address := serve(b, ServerConfig{Key: testKey, Runner: newRunner(func(_ *functions.Call, answer *functions.Answer) error {
		answer.Status = 200
		answer.Body = append(answer.Body[:0], output...)
		return nil
	})})
	client := dialReady(b, ClientConfig{Address: address, Key: testKey})
	call := newCall(bytes.Repeat([]byte("i"), benchmarkInput))
	var answer functions.Answer
	b.SetBytes(benchmarkInput)
	b.ReportAllocs()
	for b.Loop() {
		call.Deadline = time.Now().Add(10 * time.Second)
		if err := client.Run(call, &answer); err != nil || len(answer.Body) != benchmarkOutput {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareHop is the same with nothing but fasthttp at both ends.
func BenchmarkBareHop(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	output := bytes.Repeat([]byte("o"), benchmarkOutput)
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.Response.SetBodyRaw(output) }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	client := &fasthttp.HostClient{Addr: listener.Addr().String()}
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	request.SetRequestURI("http://bench/call/echo")
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetBodyRaw(bytes.Repeat([]byte("i"), benchmarkInput))
	b.SetBytes(benchmarkInput)
	b.ReportAllocs()
	for b.Loop() {
		if err := client.Do(request, response); err != nil || len(response.Body()) != benchmarkOutput {
			b.Fatal(err)
		}
	}
	client.CloseIdleConnections()
	if err := server.Shutdown(); err != nil {
		b.Error(err)
	}
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
