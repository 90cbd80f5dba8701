package billing_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/testbed"
	"lightcone/usage"
	"lightcone/usage/billing"
)

// What a process of this test's that is there to be killed is told: its folder, its
// bucket, and the first hour of the calls that it records; none, and it only has what is in
// its folder.
const (
	victimFolder  = "LIGHTCONE_BILLING_TEST_FOLDER"
	victimBucket  = "LIGHTCONE_BILLING_TEST_BUCKET"
	victimRecords = "LIGHTCONE_BILLING_TEST_RECORDS"
)

// firstRecorded is the first of two hours that are over, and of one month. A victim does not
// look at the clock for it: the hour may have turned.
func firstRecorded() time.Time {
	first := usage.HourOf(time.Now()).Add(-5 * time.Hour)
	if !billing.MonthOf(first).Equal(billing.MonthOf(first.Add(time.Hour))) {
		first = first.Add(-2 * time.Hour)
	}
	return first
}

// recorded are the calls that a victim records: twenty of each of the two hours.
func recorded(first time.Time) []usage.Row {
	return append(calls(first, 0, 20, "acme", time.Second), calls(first.Add(time.Hour), 20, 20, "globex", 2*time.Second)...)
}

// becomeVictim keeps a ledger until it is told to stop, or killed. It says when what it
// has recorded has been answered.
func becomeVictim() error {
	ledger, err := usage.Open(context.Background(), usage.Config{
		Dir: os.Getenv(victimFolder), Bucket: os.Getenv(victimBucket), Node: "gw-1", SealAge: time.Minute,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	if text := os.Getenv(victimRecords); text != "" {
		first, err := billing.ParseHour(text)
		if err != nil {
			return err
		}
		for _, row := range recorded(first) {
			record := row.Record()
			if err := errors.Join(ledger.Append(&record), ledger.Answered(record.Start)); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Println("recorded"); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return ledger.Stop(ctx)
}

// victim is such a process.
type victim struct {
	command *exec.Cmd
	in      io.Closer
	said    *bufio.Reader
}

func startVictim(t *testing.T, folder, bucket, records string) *victim {
	t.Helper()
	v := &victim{command: exec.Command(os.Args[0])}
	v.command.Env = append(os.Environ(), "AWS_MAX_ATTEMPTS=1", victimFolder+"="+folder, victimBucket+"="+bucket, victimRecords+"="+records)
	v.command.Stderr = os.Stderr
	in, err := v.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.in, v.said = in, bufio.NewReader(out)
	if err := v.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.command.Process.Kill() })
	return v
}

// hasRecorded waits for the victim's word.
func (v *victim) hasRecorded(t *testing.T) {
	t.Helper()
	if line, err := v.said.ReadString('\n'); line != "recorded\n" {
		t.Fatalf("it said %q: %v", line, err)
	}
}

// stop has the victim bring everything to the bucket, and says whether it lived to see it.
func (v *victim) stop() (lived bool) {
	_ = v.in.Close()
	return v.command.Wait() == nil
}

// door is the way to an S3 server. It is shut until it is opened, and whoever it is
// for is killed at a request of a number: before the server has it, or when it is done and
// nobody has heard.
type door struct {
	address  string
	opened   chan struct{}
	requests atomic.Int64
}

func newDoor(t *testing.T, server *testbed.S3, number int64, after bool, kill func()) *door {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: server.Address})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	d := &door{opened: make(chan struct{})}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-d.opened:
		case <-r.Context().Done():
			return
		}
		if d.requests.Add(1) == number {
			if after {
				proxy.ServeHTTP(httptest.NewRecorder(), r)
			}
			kill()
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	d.address = strings.TrimPrefix(listener.URL, "http://")
	return d
}

// invoiced bills the recorded calls' hours and makes their month's invoices: everything
// that was written of it but the reports, which name objects.
func (p place) invoiced(hours ...time.Time) map[string]string {
	p.t.Helper()
	for _, start := range hours {
		p.bill(start)
	}
	list, err := billing.ParsePriceList([]byte(prices))
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.InvoiceMonth(p.ctx(), list, []byte(prices), billing.MonthOf(hours[0])); err != nil {
		p.t.Fatal(err)
	}
	all := p.tree("bills/")
	maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasSuffix(key, "bill.json") })
	maps.Copy(all, p.tree("invoices/"))
	return all
}

// hoursOf are the hours that rows start in, in order.
func hoursOf(rows []usage.Row) (hours []time.Time) {
	for _, row := range rows {
		if start := usage.HourOf(time.UnixMicro(row.Start)); !slices.Contains(hours, start) {
			hours = append(hours, start)
		}
	}
	return hours
}

// reconciled are the differences of some hours, as they are printed.
func (p place) reconciled(hours ...time.Time) (lines []string) {
	p.t.Helper()
	for _, start := range hours {
		result, err := billing.Reconcile(p.ctx(), p.Bucket, nil, start)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, finding := range result.Findings {
			lines = append(lines, finding.String())
		}
	}
	return lines
}

// At whatever request to a real S3 server a ledger's process is killed, before the
// server has it or after: once another process has taken up its folder, bills and
// invoices are the same, byte for byte, and no difference is found.
func TestNoCrashOfTheShipperChangesAnInvoice(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	server, first := testbed.StartS3(t), firstRecorded()
	rows := recorded(first)
	hours := hoursOf(rows)
	plain := newPlace(t, t.TempDir())
	for i, start := range hours {
		plain.put(start, "node", uint64(i+1), rows[20*i:20*i+20])
	}
	want := plain.invoiced(hours...)
	for number, lived := int64(1), false; !lived; number++ {
		for _, after := range []bool{false, true} {
			name, folder := fmt.Sprintf("killed-at-%d-%v", number, after), t.TempDir()
			bucket := server.Bucket(t, name, server.Address)
			var v *victim
			way := newDoor(t, server, number, after, func() { _ = v.command.Process.Kill() })
			v = startVictim(t, folder, strings.Replace(bucket, url.QueryEscape(server.Address), url.QueryEscape(way.address), 1), billing.HourText(first))
			v.hasRecorded(t)
			close(way.opened)
			lived = v.stop()
			if !lived {
				next := startVictim(t, folder, bucket, "")
				next.hasRecorded(t)
				if !next.stop() {
					t.Fatal("the next process on the folder failed")
				}
			}
			p := newPlace(t, bucket)
			if diff := cmp.Diff(want, p.invoiced(hours...)); diff != "" {
				t.Errorf("%s: other bills or invoices: %.3000s", name, diff)
			}
			if differences := p.reconciled(hours...); len(differences) > 0 {
				t.Errorf("%s: %q", name, differences)
			}
			if err := p.Bucket.Close(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() || number > 100 {
			t.Fatalf("killed at request %d", number)
		}
		if lived && number < 10 {
			t.Fatalf("it needs %d requests only: nobody was killed between an object and the counts", number)
		}
	}
}

// A segment that is damaged on a killed process's disk costs the damaged records:
// the rest is billed, and the audit names node, sequence and number.
func TestADamagedSegmentIsNamedAndTheRestIsBilled(t *testing.T) {
	first := firstRecorded()
	hours := hoursOf(recorded(first))
	for name, test := range map[string]struct {
		damage func(segment []byte) []byte
		billed []int64 // calls, by hour
		want   []string
	}{
		"a flipped bit": {
			func(segment []byte) []byte { segment[64+3*88+30] ^= 16; return segment }, []int64{19, 20},
			[]string{"node gw-1: sequence N: 1 records were damaged on the node's disk, and are lost"},
		},
		"cut short": {
			func(segment []byte) []byte { return segment[:64+30*88+50] }, []int64{20, 10},
			[]string{
				"node gw-1: 9 calls were answered and not recorded",
				"node gw-1: sequence N: 1 records were damaged on the node's disk, and are lost",
			},
		},
		"nothing but noise": {
			func(segment []byte) []byte {
				for i := range segment {
					segment[i] ^= byte(i*7 + 1)
				}
				return segment
			}, []int64{0, 0},
			[]string{"node gw-1: 20 calls were answered and not recorded", "node gw-1: 20 calls were answered and not recorded"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder, bucket := t.TempDir(), t.TempDir()
			v := startVictim(t, folder, bucket, billing.HourText(first))
			v.hasRecorded(t)
			if err := v.command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = v.command.Wait() // it was killed
			segments, err := filepath.Glob(filepath.Join(folder, "*.segment"))
			if err != nil || len(segments) == 0 {
				t.Fatal(segments, err)
			}
			content, err := os.ReadFile(segments[0]) // the other, if there is one, has not been written to
			if err == nil {
				err = os.WriteFile(segments[0], test.damage(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			next := startVictim(t, folder, bucket, "")
			next.hasRecorded(t)
			if !next.stop() {
				t.Fatal("the next process on the folder failed")
			}
			p := newPlace(t, bucket)
			for i, start := range hours {
				if bill := p.bill(start); bill.Totals.Calls != test.billed[i] {
					t.Errorf("%d calls of hour %d are billed, want %d", bill.Totals.Calls, i, test.billed[i])
				}
			}
			sequence := strings.TrimLeft(strings.TrimSuffix(filepath.Base(segments[0]), ".segment"), "0")
			found := p.reconciled(hours...)
			for i := range found {
				found[i] = strings.ReplaceAll(found[i], sequence, "N")
			}
			if !slices.Equal(found, test.want) {
				t.Errorf("found %s", cmp.Diff(test.want, found))
			}
			set, err := filepath.Glob(filepath.Join(folder, "*.segment.damaged"))
			if aside := test.billed[0] == 0; err != nil || len(set) > 0 != aside {
				t.Errorf("set aside: %q, %v", set, err)
			}
		})
	}
}
