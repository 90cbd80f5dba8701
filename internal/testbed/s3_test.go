package testbed

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A folder in the server's is a bucket, and what was there before it was killed is
// there after its restart. Requests that are not signed are refused, so that a test
// that forgets its keys finds out.
func TestAnS3ServerIsRestarted(t *testing.T) {
	s := StartS3(t)
	s.Bucket(t, "photos", s.Address)
	ask := func() int {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Address+"/photos?list-type=2", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0
		}
		defer func() { _ = response.Body.Close() }()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	if status := ask(); status != http.StatusForbidden {
		t.Errorf("unsigned: %d", status)
	}
	s.Freeze()
	s.Thaw()
	s.Kill()
	if status := ask(); status != 0 {
		t.Errorf("killed, and answers %d", status)
	}
	s.Restart()
	if status := ask(); status != http.StatusForbidden {
		t.Errorf("restarted: %d", status)
	}
	if _, err := os.Stat(filepath.Join(s.Folder, "photos")); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}
