package testbed

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who may use a test's S3 server, and where it says it is.
const (
	S3AccessKey = "lightcone"
	S3SecretKey = "of-lightcone"
	S3Region    = "eu-central-1"
)

// s3Bound is how long the server may take to answer after its start.
const s3Bound = time.Minute

// S3 is a real S3 server (versitygw) over a folder of the test's.
type S3 struct {
	*process
	Address string // host:port
	Folder  string // of the buckets: each is a folder in it
}

// StartS3 starts a server and waits until it answers.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	own := t.TempDir()
	s := &S3{Address: loopback(Ports(t, 1)[0]), Folder: filepath.Join(own, "buckets")}
	attributes := filepath.Join(own, "attributes") // not every file system has its own
	for _, folder := range []string{s.Folder, attributes} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.process = newProcess(t, own, Agent(t, "versitygw"),
		"--access", S3AccessKey, "--secret", S3SecretKey, "--region", S3Region, "--port", s.Address, "--health", "/health", "--quiet",
		"posix", "--sidecar", attributes, s.Folder)
	s.awaitHealth()
	return s
}

// Bucket makes an empty bucket and returns its URL for gocloud.dev's s3blob, as
// the server at address (host:port) has it: the server's own, or that of a proxy
// before it. It puts the keys into the test's environment, so the test must not be
// parallel.
func (s *S3) Bucket(t *testing.T, name, address string) string {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", S3AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", S3SecretKey)
	if err := os.Mkdir(filepath.Join(s.Folder, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return "s3://" + name + "?" + url.Values{
		"region": {S3Region}, "endpoint": {"http://" + address}, "use_path_style": {"true"},
	}.Encode()
}

// Restart starts a killed server again, on the same buckets and port, and waits
// until it answers.
func (s *S3) Restart() {
	s.t.Helper()
	s.start()
	s.awaitHealth()
}

func (s *S3) awaitHealth() {
	s.t.Helper()
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	s.await(s3Bound, "the S3 server answers", func() bool {
		response, err := client.Get("http://" + s.Address + "/health")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
}
