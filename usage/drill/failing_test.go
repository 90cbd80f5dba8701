package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"lightcone/internal/testbed"
)

// Half of the requests fail, each as its fate says: those that are refused or cut off
// before have not reached the server, those that are cut off after have, and what the
// client hears is what the proxy counts.
func TestTheStoreFailsAsItSays(t *testing.T) {
	t.Parallel()
	var done atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done.Add(1)
		_, _ = io.Copy(w, r.Body)
	}))
	defer server.Close()
	address := fmt.Sprintf("127.0.0.1:%d", testbed.Ports(t, 1)[0])
	f, err := startFailingStore(address, strings.TrimPrefix(server.URL, "http://"), 7)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // which tries nothing twice
	var heard [fates]int
	const requests = 400
	for i := range requests {
		body := fmt.Sprint(i)
		response, err := client.Post("http://"+address+"/key", "text/plain", strings.NewReader(body))
		switch {
		case err != nil:
			heard[cutBefore]++ // or after
		case response.StatusCode == http.StatusOK:
			if said, err := io.ReadAll(response.Body); err != nil || string(said) != body {
				t.Errorf("%q, %v", said, err)
			}
			heard[passed]++
		case response.StatusCode == http.StatusInternalServerError, response.StatusCode == http.StatusServiceUnavailable:
			heard[refused]++
		default:
			t.Error(response.Status)
		}
		if response != nil {
			_ = response.Body.Close()
		}
	}
	counts := f.met()
	if err := f.stop(); err != nil {
		t.Error(err)
	}
	if heard[passed] != counts[passed] || heard[refused] != counts[refused] || heard[cutBefore] != counts[cutBefore]+counts[cutAfter] {
		t.Errorf("the client heard %v, and the proxy counts %v", heard, counts)
	}
	if int(done.Load()) != counts[passed]+counts[cutAfter] {
		t.Errorf("the server did %d requests, and the proxy counts %v", done.Load(), counts)
	}
	for drawn, count := range counts {
		if count < requests/12 {
			t.Errorf("fate %d came %d times of %d", drawn, count, requests)
		}
	}
}

func TestHalfOfAllRequestsFail(t *testing.T) {
	t.Parallel()
	random, count := rand.New(rand.NewPCG(1, 1)), [fates]int{}
	const draws = 60_000
	for range draws {
		count[drawFate(random)]++
	}
	for drawn, want := range [fates]int{draws / 2, draws / 6, draws / 6, draws / 6} {
		if got := count[drawn]; got < want*95/100 || got > want*105/100 {
			t.Errorf("fate %d came %d times, want about %d", drawn, got, want)
		}
	}
}
