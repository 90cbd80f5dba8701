package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/usage"
	"lightcone/usage/store"
)

// lingeringFunctionSource is a function that takes as long as its input says.
const lingeringFunctionSource = `package main

import (
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		pause, _ := time.ParseDuration(string(body))
		time.Sleep(pause)
		w.Write(body)
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
`

// eventually waits for what the queue does only when it has not heard of a worker for a
// while.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// recordsIn are the records in a folder's bucket, by call, copies too.
func recordsIn(t *testing.T, folder string) map[lightcone.CallID][]lightcone.UsageRecord {
	t.Helper()
	bucket, err := store.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[lightcone.CallID][]lightcone.UsageRecord)
	err = bucket.List(t.Context(), "usage/", func(listed store.Object) error {
		content, err := bucket.Read(t.Context(), listed.Key, store.LongestObject)
		if err != nil {
			return err
		}
		object, _ := usage.ParseObject(listed.Key)
		return usage.Decode(content, object, func(row *usage.Row) error {
			record := row.Record()
			found[record.Call] = append(found[record.Call], record)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A worker's process is killed while it runs one queued call and is about to be done with
// others, whose ends may have been recorded and may not. Another is given what the queue
// has not let go of. In the end each call is recorded, and counts once.
func TestARedeliveredCallIsBilledOnce(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	node := r.queueNode()
	dir, bucket := t.TempDir(), t.TempDir()
	lingering := "lingering=" + compiled(t, lingeringFunctionSource)
	worker := func(name string) *service {
		return r.workers(1, lingering, "--function-on-port", "--queue-service=queue", "--queue-password-file="+r.key("queue.password"), "--queue-ca-file="+r.key("queue-ca.pem"),
			"--usage-dir", filepath.Join(dir, name), "--usage-bucket", "file://"+bucket, "--usage-node", name)[0]
	}
	flags := queueFlags{servers: node.listen, passwordFile: r.key("queue.password"), caFile: r.key("queue-ca.pem"), keep: 24 * time.Hour}
	client, closeClient, err := flags.connect(nil, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeClient(context.Background()) }()
	within(t, "the queue is ready", func() bool { return client.Ready() == nil })
	queued := 0
	accept := func(takes string) lightcone.CallID {
		t.Helper()
		queued++
		id, err := lightcone.NewCallID(time.Now(), numbered(queued))
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Accept(t.Context(), &functions.Queued{
			Call: functions.Call{ID: id, Function: "lingering", Tenant: "demo", Body: []byte(takes)}, Timeout: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	is := func(id lightcone.CallID, want lightcone.InvocationStatus) lightcone.Invocation {
		found, err := client.Find(t.Context(), "demo", id)
		if err != nil || found.Status != want {
			return lightcone.Invocation{}
		}
		return found
	}

	first := worker("worker-1")
	long := accept("3s")
	within(t, "the long call runs", func() bool { return is(long, lightcone.InvocationRunning).ID == long })
	short := []lightcone.CallID{accept("1ms"), accept("2ms"), accept("3ms")}
	for ended := false; !ended && is(long, lightcone.InvocationRunning).ID == long; {
		ended = is(short[0], lightcone.InvocationSucceeded).ID == short[0]
	}
	first.signal(syscall.SIGKILL)
	<-first.ended
	if is(long, lightcone.InvocationRunning).ID != long {
		t.Fatal("the long call has ended before the kill")
	}
	second := worker("worker-2")
	eventually(t, "the queue has let go of all calls", func() bool {
		left, err := client.Backlogs(t.Context())
		return err == nil && len(left) == 0
	})
	for _, id := range append(short, long) {
		if is(id, lightcone.InvocationSucceeded).ID != id {
			t.Errorf("call %s has not succeeded", id)
		}
	}
	if found := is(long, lightcone.InvocationSucceeded); found.Attempts != 2 {
		t.Errorf("the long call: %+v, want two attempts", found)
	}
	second.stop()
	worker("worker-1").stop() // which brings to the bucket what the killed one had

	all := recordsIn(t, bucket)
	if len(all) != queued || len(all[long]) != 1 {
		t.Errorf("%d calls are recorded, want %d; the long one %d times", len(all), queued, len(all[long]))
	}
	var bytesIn int64
	for id, copies := range all {
		bytesIn += copies[0].Used.BytesIn
		for _, record := range copies {
			if record != copies[0] {
				t.Errorf("call %s was told in other words: %+v, %+v", id, copies[0], record)
			}
		}
	}
	reader, err := usage.OpenReader(t.Context(), bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	sums, err := reader.Sum(t.Context(), "demo", usage.HoursOf(long.Time(), time.Now()), nil)
	if err != nil || len(sums) != 1 || sums[0].Calls != int64(queued) || sums[0].BytesIn != bytesIn {
		t.Errorf("it comes to %+v (%v), want %d calls and %d bytes in", sums, err, queued, bytesIn)
	}
}
