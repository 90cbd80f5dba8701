package edge

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lightcone/internal/testbed"
)

// linesWith is how many lines of a log have all the words.
func linesWith(log *testbed.Log, words ...string) (count int) {
	for line := range strings.Lines(log.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			count++
		}
	}
	return count
}

func TestAnOutageOfTheOriginIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := onFile(t), new(testbed.Log)
		c := (&operator{t: t, store: store.Store}).customer("one")
		store.away.Store(true)
		d := logging(t, Config{Origin: store}, log)
		if err := d.Ready(); err == nil || !strings.Contains(err.Error(), "has not answered yet") {
			t.Errorf("before it was asked: %v", err)
		}
		run(t, d)
		for range 60 {
			time.Sleep(time.Second)
			expect(t, d, c, "overloaded", "the store is away")
		}
		if err := d.Ready(); err == nil || !strings.Contains(err.Error(), errAway.Error()) {
			t.Errorf("the store is away: %v", err)
		}
		store.away.Store(false)
		time.Sleep(time.Minute)
		expect(t, d, c, "ok", "the store is back")
		for _, name := range []string{"The origin", "The audit trail", "The list"} {
			if warned, told := linesWith(log, "WARN", name), linesWith(log, "INFO", name); warned != 1 || told != 1 {
				t.Errorf("%s: %d warnings, back %d times", name, warned, told)
			}
		}
		if id := string(c.record.ID); linesWith(log, "WARN", id)+linesWith(log, "INFO", id) != 0 {
			t.Error("the log names a key")
		}
		store.away.Store(true)
		time.Sleep(time.Minute)
		if err := d.Ready(); err != nil {
			t.Errorf("it was ready once: %v", err)
		}
	})
}

// Nobody calls, and still it is noticed: also that Redis is back.
func TestAnOutageOfRedisIsToldOnce(t *testing.T) {
	t.Parallel()
	servers, store, log := startRedis(t), onFile(t), new(testbed.Log)
	store.away.Store(true)
	redis := connect(t, servers)
	redis.breaker.outage.logger = slog.New(slog.NewTextHandler(log, nil))
	freeze(servers)
	d := logging(t, Config{Origin: store, Redis: redis}, log)
	run(t, d)
	eventually(t, 20*time.Second, "a warning", func() bool { return linesWith(log, "WARN", "Redis") > 0 })
	if err := d.Ready(); err == nil || !strings.Contains(err.Error(), "Redis") || !strings.Contains(err.Error(), "origin") {
		t.Errorf("nobody answers: %v", err)
	}
	thaw(servers)
	eventually(t, 20*time.Second, "it is told that Redis is back", func() bool { return linesWith(log, "INFO", "Redis") > 0 })
	if err := d.Ready(); err != nil {
		t.Errorf("Redis answers: %v", err)
	}
	if warned, told := linesWith(log, "WARN", "Redis"), linesWith(log, "INFO", "Redis"); warned != 1 || told != 1 {
		t.Errorf("%d warnings, back %d times", warned, told)
	}
}

func logging(t *testing.T, c Config, log *testbed.Log) *Directory {
	t.Helper()
	d := newDirectory(t, c)
	logger := slog.New(slog.NewTextHandler(log, nil))
	d.logger, d.origin.outage.logger, d.trail.outage.logger, d.filter.outage.logger = logger, logger, logger, logger
	return d
}
