package admission

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"lightcone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epoch is when tests begin, far from the turn of a month.
var epoch = time.Date(2026, time.November, 10, 12, 0, 0, 0, time.UTC)

// ledger is a test's Region: the totals of a region, in memory.
type ledger struct {
	totals map[string]map[lightcone.TenantID]lightcone.Usage
	fail   string // "" = answer; lost = add, and then fail; away = fail; partly = add and answer those up to t1, and fail
	log    []string
}

func (l *ledger) Exchange(_ context.Context, month string, spent map[lightcone.TenantID]lightcone.Usage) (map[lightcone.TenantID]lightcone.Usage, error) {
	if l.fail == "away" {
		return nil, errors.New("away")
	}
	answer := make(map[lightcone.TenantID]lightcone.Usage)
	for id, used := range spent {
		if l.fail == "partly" && id > "t1" {
			continue
		}
		answer[id] = l.add(month, id, used)
		l.log = append(l.log, fmt.Sprintf("%s %s +%v/%d", month, id, used.CPU, bytesOf(used)))
	}
	switch l.fail {
	case "lost":
		return nil, errors.New("the answer was lost")
	case "partly":
		return answer, errors.New("not all of it")
	}
	return answer, nil
}

func (l *ledger) add(month string, id lightcone.TenantID, used lightcone.Usage) lightcone.Usage {
	if l.totals[month] == nil {
		l.totals[month] = make(map[lightcone.TenantID]lightcone.Usage)
	}
	had := l.totals[month][id]
	l.totals[month][id] = lightcone.Usage{CPU: had.CPU + used.CPU, BytesIn: had.BytesIn + used.BytesIn, BytesOut: had.BytesOut + used.BytesOut}
	return l.totals[month][id]
}

// stage is what a transcript plays on: one tenant, "acme", and its calls by name.
type stage struct {
	table    *Table
	region   *ledger
	exchange exchange
	quota    lightcone.Quota
	grants   map[string]Grant
}

// when reads a time: an offset from epoch, or a date.
func when(t *testing.T, d *datadriven.TestData) time.Time {
	if !d.HasArg("at") {
		return epoch
	}
	var text string
	d.ScanArgs(t, "at", &text)
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at
	}
	offset, err := time.ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "at: %v", err)
	}
	return epoch.Add(offset)
}

// number reads a number, or otherwise.
func number(t *testing.T, d *datadriven.TestData, key string, otherwise float64) float64 {
	if !d.HasArg(key) {
		return otherwise
	}
	var text string
	d.ScanArgs(t, key, &text)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return value
}

// usage reads cpu (seconds), in and out (bytes).
func usage(t *testing.T, d *datadriven.TestData) lightcone.Usage {
	return lightcone.Usage{
		CPU:     time.Duration(number(t, d, "cpu", 0) * float64(time.Second)),
		BytesIn: int64(number(t, d, "in", 0)), BytesOut: int64(number(t, d, "out", 0)),
	}
}

func (s *stage) play(t *testing.T, d *datadriven.TestData) string {
	const acme = lightcone.TenantID("acme")
	at := when(t, d)
	call := ""
	if d.HasArg("call") {
		d.ScanArgs(t, "call", &call)
	}
	switch d.Cmd {
	case "new":
		table, err := NewTable(DefaultConfig(), epoch)
		if err != nil {
			t.Fatal(err)
		}
		*s = stage{table: table, region: &ledger{totals: map[string]map[lightcone.TenantID]lightcone.Usage{}}, grants: map[string]Grant{}}
		s.exchange = exchange{table: table, region: s.region, deadline: time.Second, most: 100}
		table.told.Store(true)
		fallthrough
	case "quota":
		s.quota = lightcone.Quota{
			CallsPerSecond: number(t, d, "rate", lightcone.NoLimit), Burst: int(number(t, d, "burst", lightcone.NoLimit)),
			ConcurrentCalls: int(number(t, d, "concurrent", lightcone.NoLimit)), BytesPerMonth: int64(number(t, d, "bytes", lightcone.NoLimit)),
			CPUPerMonth: time.Duration(number(t, d, "cpu", -1e-9) * float64(time.Second)),
		}
		return ""
	case "admit":
		grant, refused := s.table.Admit(acme, &s.quota, at)
		if refused.Limit == "" && call != "" {
			s.grants[call] = grant
		}
		return said(refused)
	case "peek":
		return said(s.table.Peek(acme, &s.quota, at))
	case "settle":
		outcomes := map[string]Outcome{"answered": Answered, "crashed": Crashed, "stopped": Stopped, "untold": Untold}
		outcome := "answered"
		if d.HasArg("outcome") {
			d.ScanArgs(t, "outcome", &outcome)
		}
		left := s.table.Settle(s.grants[call], outcomes[outcome], usage(t, d), &s.quota, at)
		delete(s.grants, call)
		return standing(&s.quota, left)
	case "crash", "stop": // so many calls, admitted and crashed or stopped one after the other
		outcome := map[string]Outcome{"crash": Crashed, "stop": Stopped}[d.Cmd]
		for range int(number(t, d, "calls", 1)) {
			grant, refused := s.table.Admit(acme, &s.quota, at)
			if refused.Limit != "" {
				return said(refused)
			}
			s.table.Settle(grant, outcome, lightcone.Usage{}, &s.quota, at)
		}
		return "all " + map[Outcome]string{Crashed: "crashed", Stopped: "stopped"}[outcome]
	case "confined":
		return fmt.Sprint(s.table.confined(acme, at))
	case "others": // another gateway tells the region
		month := monthOf(at).String()
		s.region.add(month, acme, usage(t, d))
		return ""
	case "lose": // the region forgets all it had, and has usage again
		s.region.totals = map[string]map[lightcone.TenantID]lightcone.Usage{}
		s.region.add(monthOf(at).String(), acme, usage(t, d))
		return ""
	case "exchange":
		s.region.fail, s.region.log = "", nil
		if d.HasArg("fail") {
			d.ScanArgs(t, "fail", &s.region.fail)
		}
		if err := s.exchange.round(t.Context()); err != nil {
			s.region.log = append(s.region.log, err.Error())
		}
		return strings.Join(s.region.log, "\n")
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	}
}

func said(r Refusal) string {
	switch {
	case r.Limit == "":
		return "go on"
	case r.RetryAfter == Never:
		return fmt.Sprintf("%s, for good", r.Limit)
	default:
		return fmt.Sprintf("%s, for %v", r.Limit, r.RetryAfter)
	}
}

// standing is what is left, of the quotas that limit something.
func standing(q *lightcone.Quota, s Standing) string {
	var parts []string
	if q.CallsPerSecond >= 0 && s.Tokens < math.MaxInt64 {
		parts = append(parts, fmt.Sprintf("%d tokens, the next in %v", s.Tokens, s.NextToken))
	}
	if q.ConcurrentCalls >= 0 {
		parts = append(parts, fmt.Sprintf("%d free", s.Free))
	}
	if q.BytesPerMonth >= 0 {
		parts = append(parts, fmt.Sprintf("%d bytes for %v", s.Bytes, s.MonthEnds))
	}
	return strings.Join(parts, "; ")
}

// TestTranscripts plays testdata: what was decided, line by line.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, path := range files {
		var s stage
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.play(t, d) })
	}
}
