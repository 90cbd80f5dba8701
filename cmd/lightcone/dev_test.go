package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	supervisor "lightcone/functions/runtime"
	"lightcone/internal/testbed"
)

// photo is a real photograph: 2560 by 1600 pixels, 265 KB.
const photo = "/usr/share/backgrounds/mate/nature/Garden.jpg"

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lightcone-bin-")
	if err != nil {
		return "", err
	}
	output, err := exec.Command("go", "build", "-o", dir, "lightcone/cmd/lightcone", "lightcone/cmd/lightcone-resize").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, output)
	}
	return dir, err
})

// devTree is a real `lightcone dev`, built from this source.
type devTree struct {
	command     *exec.Cmd
	data        string
	api, manage string
	said        *testbed.Log
	ended       chan error
}

func startDev(t *testing.T, data string, flags ...string) *devTree {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	d := &devTree{data: data, api: freeAddress(t), manage: freeAddress(t), said: &testbed.Log{}, ended: make(chan error, 1)}
	d.command = exec.Command(filepath.Join(bin, "lightcone"), append([]string{"dev", "--data", data, "--api", d.api, "--manage", d.manage}, flags...)...)
	d.command.Stdout, d.command.Stderr = d.said, d.said
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.command.Wait() }()
	t.Cleanup(func() { d.stop(t) })
	within(t, "it is up: "+strings.Join(d.command.Args, " "), func() bool { return strings.Contains(d.said.String(), "curl ") })
	return d
}

// stop ends the tree as Ctrl-C does and checks that it went well.
func (d *devTree) stop(t *testing.T) {
	t.Helper()
	if d.command.ProcessState != nil {
		return
	}
	_ = d.command.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.ended:
		if err != nil {
			t.Errorf("it ended with %v: %s", err, d.said)
		}
	case <-time.After(20 * time.Second):
		_ = d.command.Process.Kill()
		t.Errorf("it did not end within 20 s: %s", d.said)
	}
}

// status is what the management listener tells of resize.
func (d *devTree) status(t *testing.T) supervisor.Status {
	t.Helper()
	return slotsAt(t, d.manage)[0]
}

// slotsAt is what a management listener tells of its functions.
func slotsAt(t *testing.T, manage string) (all []supervisor.Status) {
	t.Helper()
	response, err := http.Get("http://" + manage + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// post calls resize with the demo key.
func (d *devTree) post(t *testing.T, query string, body []byte, change func(*http.Request)) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+d.api+"/function/resize?"+query, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(d.data, "demo.key"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	if change != nil {
		change(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, answer
}

func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(testbed.Ports(t, 1)[0]))
}

func readBytes(t *testing.T, name string) []byte {
	t.Helper()
	return []byte(read(t, name))
}

func imageSize(t *testing.T, content []byte) image.Point {
	t.Helper()
	config, err := jpeg.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return image.Pt(config.Width, config.Height)
}

func TestDevAnswersTheCommandItPrints(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"), "--sample", photo)
	_, line, _ := strings.Cut(d.said.String(), "Try it:")
	line = strings.TrimSpace(line)
	if output, err := exec.Command("bash", "-c", line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, output)
	}
	if size := imageSize(t, readBytes(t, filepath.Join(d.data, "sample.jpg"))); size != image.Pt(300, 188) {
		t.Errorf("the photograph is %v", size)
	}
	for _, part := range []string{"of CPU time", "isolation full", "Resized " + photo} {
		if !strings.Contains(d.said.String(), part) {
			t.Errorf("%q is not in what it said: %s", part, d.said)
		}
	}
	for _, name := range []string{"demo.key", "operator.key"} {
		if info, err := os.Stat(filepath.Join(d.data, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestDevsManagementWantsTheOperatorsKey(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"), "--sample", photo)
	for _, test := range []struct {
		key    string
		status int
	}{{"operator.key", 200}, {"demo.key", 401}} {
		request, _ := http.NewRequest(http.MethodGet, "http://"+d.manage+"/metrics", nil)
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(readBytes(t, filepath.Join(d.data, test.key)))))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != test.status {
			t.Errorf("%s: %d, %v", test.key, response.StatusCode, err)
		}
		if test.status == 200 && !strings.Contains(string(body), "lightcone_function_cpu_seconds_total") {
			t.Errorf("the metrics lack the functions' CPU time: %.300s", body)
		}
	}
}

func TestDevCarriesOnAfterItsTreeIsKilled(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first := startDev(t, data)
	key := readBytes(t, filepath.Join(data, "demo.key"))
	pids := first.status(t).PIDs
	_ = first.command.Process.Kill()
	<-first.ended
	within(t, "its functions died with it", func() bool {
		for _, pid := range pids {
			if alive(pid) {
				return false
			}
		}
		return true
	})
	again := startDev(t, data)
	if !bytes.Equal(key, readBytes(t, filepath.Join(data, "demo.key"))) {
		t.Error("the demo key changed")
	}
	if response, _ := again.post(t, "width=100", readBytes(t, photo), nil); response.StatusCode != 200 {
		t.Errorf("after the restart: %s", response.Status)
	}
}

// alive says whether a process runs: a zombie that its new parent has not
// collected does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

// compiled is the executable of a program in one file.
func compiled(t *testing.T, source string) string {
	t.Helper()
	executable := filepath.Join(t.TempDir(), "own")
	compile := exec.Command("go", "build", "-o", executable, write(t, filepath.Join(t.TempDir(), "own.go"), source))
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return executable
}

// A function of one's own needs nothing of Lightcone's: this one knows only
// the standard library and $PORT.
func TestDevRunsAFunctionOfOnesOwn(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"), "--port-function", "shout="+compiled(t, ownFunctionSource))
	request, _ := http.NewRequest(http.MethodPost, "http://"+d.api+"/function/shout", strings.NewReader("hello"))
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, filepath.Join(d.data, "demo.key"))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusTeapot || string(body) != "HELLO" {
		t.Errorf("%s %q, %v", response.Status, body, err)
	}
	if fault := response.Header.Get("X-Lightcone-Error"); fault != "function" {
		t.Errorf("a status of the function's own is blamed on %q", fault)
	}
}

const ownFunctionSource = `package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == "die" {
			os.Exit(7)
		}
		w.WriteHeader(http.StatusTeapot)
		w.Write(bytes.ToUpper(body))
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
`

func TestDevDropsNoCallWhenItStops(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"))
	input := readBytes(t, photo)
	const callers = 8
	begun := make(chan struct{}, callers)
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			body := &announced{Reader: bytes.NewReader(input), begun: begun}
			request, _ := http.NewRequest(http.MethodPost, "http://"+d.api+"/function/resize?width=1200&format=webp", body)
			request.ContentLength = int64(len(input))
			request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(readBytes(t, filepath.Join(d.data, "demo.key")))))
			request.Header.Set("X-Timeout", "30s")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Errorf("a call in flight: %v", err)
				return
			}
			answer, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != 200 && response.StatusCode != 503 {
				t.Errorf("a call in flight: %s %v %.200s", response.Status, err, answer)
			}
		})
	}
	for range callers {
		<-begun
	}
	d.stop(t)
	group.Wait()
}

// announced tells when a request's body has been read to its end by the client:
// from then on the call is the server's.
type announced struct {
	io.Reader
	begun chan<- struct{}
	once  sync.Once
}

func (a *announced) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err == io.EOF {
		a.once.Do(func() { a.begun <- struct{}{} })
	}
	return n, err
}
