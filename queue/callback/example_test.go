package callback_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// receiver takes callbacks. It needs nothing of Lightcone's but the secret's text.
type receiver struct {
	secret string // as the operator gave it: whsec_...
	now    func() time.Time

	mu   sync.Mutex
	seen map[string]bool // ids of callbacks that have been dealt with; a real one forgets them after some days
}

// ended is how a call ended: what Webhook-Id says, which is signed.
type ended struct {
	call, function, status string
	functionStatus         int
}

const tolerance = 5 * time.Minute // how far the two clocks may be apart

// verify says how the call ended if the callback is the region's, is meant for this
// secret, and is not an old one sent again.
func (r *receiver) verify(header http.Header, body []byte) (ended, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.secret, "whsec_"))
	if err != nil {
		return ended{}, fmt.Errorf("the secret: %w", err)
	}
	id, timestamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	genuine := false
	for signature := range strings.FieldsSeq(header.Get("Webhook-Signature")) { // two while the region's key changes
		genuine = genuine || hmac.Equal([]byte(signature), want)
	}
	if !genuine {
		return ended{}, errors.New("no signature is by this secret")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if age := r.now().Sub(time.Unix(seconds, 0)); err != nil || age.Abs() > tolerance {
		return ended{}, fmt.Errorf("the callback is %v old", age)
	}
	parts := strings.Split(id, ":")
	if len(parts) != 5 {
		return ended{}, fmt.Errorf("the id has %d parts", len(parts))
	}
	functionStatus, err := strconv.Atoi(parts[3])
	return ended{call: parts[0], function: parts[1], status: parts[2], functionStatus: functionStatus}, err
}

// ServeHTTP answers 204 to what it has dealt with, also if it was before: whatever is not
// 2xx is sent again.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	call, err := r.verify(request.Header, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if id := request.Header.Get("Webhook-Id"); !r.seen[id] {
		r.seen[id] = true
		fmt.Printf("%s of %s %s with %d: %s\n", call.call, call.function, call.status, call.functionStatus, body)
	}
	w.WriteHeader(http.StatusNoContent)
}

// How to receive a callback: verify the signature over the bytes as they came, refuse
// old ones, and deal with each id once.
func Example() {
	r := &receiver{
		secret: "whsec_1i7UuONhwgB1bbgbDnZsYBZfLsfYZVjwpZJz4ZCI87U=",
		now:    func() time.Time { return time.Unix(1793707200, 0) },
		seen:   make(map[string]bool),
	}
	send := func(body string) int {
		request := httptest.NewRequest(http.MethodPost, "/done", strings.NewReader(body))
		request.Header.Set("Webhook-Id", "01KAXG7Q6M3ZV9K2T8J4R5W1YB:echo:succeeded:200:1793707199250")
		request.Header.Set("Webhook-Timestamp", "1793707200")
		request.Header.Set("Webhook-Signature", "v1,WbifZnauCj/nxKy1saTWHk4iVLUZ+eO6f664IKx8QKw=")
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		return answer.Code
	}
	fmt.Println(send("hello"))
	fmt.Println(send("hello")) // sent again: dealt with once
	fmt.Println(send("hellO")) // not what was signed

	// Output:
	// 01KAXG7Q6M3ZV9K2T8J4R5W1YB of echo succeeded with 200: hello
	// 204
	// 204
	// 401
}
