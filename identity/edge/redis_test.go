package edge

import (
	"context"
	"log/slog"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/testbed"
)

func connect(t testing.TB, r *testbed.Redis) *Redis {
	t.Helper()
	client, err := Connect(RedisConfig{
		Sentinels: r.Sentinels(), Master: testbed.RedisMaster, Username: testbed.RedisUser, Password: testbed.RedisPassword,
		SentinelPassword: testbed.SentinelPassword, Logger: slog.New(slog.DiscardHandler),
	}, testStale)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func startRedis(t testing.TB) *testbed.Redis {
	t.Helper()
	return testbed.StartRedis(t, strings.Fields(ACLRules)...)
}

// calls is how often the master was asked to run a command.
func calls(t testing.TB, r *testbed.Redis, command string) int {
	t.Helper()
	said, err := r.Master().Ask("INFO", "commandstats")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(said[0], "cmdstat_"+command+":calls=")
	if !found {
		return 0
	}
	digits, _, _ := strings.Cut(after, ",")
	count, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

func TestRedisKeepsTheNewest(t *testing.T) {
	t.Parallel()
	r := connect(t, startRedis(t))
	now := time.UnixMilli(time.Now().UnixMilli())
	for _, test := range []struct {
		name      string
		put, want kept
	}{
		{"the first", kept{"keys/a", 5, now, []byte("five")}, kept{"keys/a", 5, now, []byte("five")}},
		{"an older one", kept{"keys/a", 4, now.Add(time.Second), []byte("four")}, kept{"keys/a", 5, now, []byte("five")}},
		{"the same, confirmed earlier", kept{"keys/a", 5, now.Add(-time.Second), []byte("five")}, kept{"keys/a", 5, now, []byte("five")}},
		{"the same, confirmed later", kept{"keys/a", 5, now.Add(time.Second), []byte("five")}, kept{"keys/a", 5, now.Add(time.Second), []byte("five")}},
		{"ten is more than five", kept{"keys/a", 10, now, []byte("ten\x00\r\n")}, kept{"keys/a", 10, now, []byte("ten\x00\r\n")}},
		{"deleted", kept{"keys/a", 11, now, nil}, kept{"keys/a", 11, now, []byte{}}},
		{"brought back by who is late", kept{"keys/a", 10, now.Add(time.Hour), []byte("ten")}, kept{"keys/a", 11, now, []byte{}}},
	} {
		if err := r.put(t.Context(), test.put); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got, err := r.get(t.Context(), "keys/a")
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", test.name, err, diff)
		}
	}
	if got, err := r.get(t.Context(), "keys/none"); err != nil || got.Version != 0 {
		t.Errorf("what is not there: %+v, %v", got, err)
	}
}

func TestSpendingAddsUp(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	one, other := NewSpending(connect(t, server)), NewSpending(connect(t, server))
	spent := map[lightcone.TenantID]lightcone.Usage{"a": {CPU: time.Second, BytesIn: 10, BytesOut: 1}, "b": {BytesIn: 5}}
	for i := range 600 { // more than one transaction
		spent[tenantID(i)] = lightcone.Usage{CPU: time.Duration(i)}
	}
	totals, err := one.Exchange(t.Context(), "2026-11", spent)
	if diff := cmp.Diff(spent, totals); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	totals, err = other.Exchange(t.Context(), "2026-11", map[lightcone.TenantID]lightcone.Usage{"a": {CPU: time.Second, BytesOut: 2}, "c": {}})
	want := map[lightcone.TenantID]lightcone.Usage{"a": {CPU: 2 * time.Second, BytesIn: 10, BytesOut: 3}, "c": {}}
	if diff := cmp.Diff(want, totals); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	totals, err = other.Exchange(t.Context(), "2026-12", map[lightcone.TenantID]lightcone.Usage{"a": {}})
	if err != nil || totals["a"] != (lightcone.Usage{}) {
		t.Errorf("a new month begins with %+v, %v", totals["a"], err)
	}
	left, err := server.Master().Ask("TTL", spentPrefix+"2026-11:a")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := strconv.Atoi(left[0])
	if most := int(spentFor.Seconds()); err != nil || kept > most || kept < most-60 {
		t.Errorf("it is kept for %s s, %v", left, err)
	}
	server.KillAll()
	totals, err = one.Exchange(t.Context(), "2026-11", spent)
	if err == nil || len(totals) != 0 {
		t.Errorf("without Redis: %d totals, %v", len(totals), err)
	}
}

func TestAnAnnouncementArrives(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	store := onFile(t)
	o := &operator{t: t, store: store.Store}
	c, gone := o.customer("one"), o.customer("gone")
	announcer := NewAnnouncer(connect(t, server))
	d := start(t, Config{Origin: store, Redis: connect(t, server)})
	eventually(t, 10*time.Second, "it has subscribed", func() bool { return subscribers(t, server) > 0 })
	expect(t, d, c, "ok", "at first")
	expect(t, d, gone, "ok", "at first")
	store.trailAway.Store(true) // so that nothing else tells
	if err := announcer.Announce(t.Context(), o.revoke(c)); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, time.Second, "the revoked key is refused", func() bool { return says(d, c.key.Text()) == "unauthenticated" })
	if err := announcer.Announce(t.Context(), o.commit(map[string]any{identity.KeyPath(gone.record.ID): nil})); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "the deleted key is refused", func() bool { return says(d, gone.key.Text()) == "unauthenticated" })
	made := o.customer("made")
	for range 100 { // nothing is left for newcomers
		d.newcomers.Allow()
	}
	if err := announcer.Announce(t.Context(), []document.Document{{Path: identity.KeyPath(made.record.ID), Value: o.text(made.record), Version: 1 << 20}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "the new key works", func() bool { return says(d, made.key.Text()) == "ok" })
	t.Logf("revoked after %v", took)
}

// subscribers are how many the master has for announcements.
func subscribers(t testing.TB, r *testbed.Redis) int {
	said, err := r.Master().Ask("PUBSUB", "NUMSUB", changesChannel)
	if err != nil || len(said) != 2 {
		t.Fatal(said, err)
	}
	count, err := strconv.Atoi(said[1])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// A gateway that is started again while the origin is away finds the keys in Redis.
func TestRedisKnowsTheKeysWhenTheOriginIsAway(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	store := onFile(t)
	c := (&operator{t: t, store: store.Store}).customer("one")
	redis := connect(t, server)
	expect(t, newDirectory(t, Config{Origin: store, Redis: redis}), c, "ok", "from the origin")
	before := store.reads.Load()
	expect(t, newDirectory(t, Config{Origin: store, Redis: redis}), c, "ok", "from Redis, which has it fresh")
	if reads := store.reads.Load() - before; reads != 0 {
		t.Errorf("%d reads of the origin", reads)
	}
	store.away.Store(true)
	again := newDirectory(t, Config{Origin: store, Redis: redis})
	again.clock.wall = func() time.Time { return time.Now().Add(23 * time.Hour) }
	expect(t, again, c, "ok", "from Redis, after 23 hours")
	later := newDirectory(t, Config{Origin: store, Redis: redis})
	later.clock.wall = func() time.Time { return time.Now().Add(25 * time.Hour) }
	expect(t, later, c, "overloaded", "from Redis, after 25 hours")
	earlier := newDirectory(t, Config{Origin: store, Redis: redis})
	earlier.clock.wall = func() time.Time { return time.Now().Add(-time.Hour) }
	expect(t, earlier, c, "ok", "the clock has gone back an hour")
}

func TestNeitherStoreFeelsAMillionRandomKeys(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	store := onFile(t)
	c := (&operator{t: t, store: store.Store}).customer("one")
	d := start(t, Config{Origin: store, Redis: connect(t, server)})
	expect(t, d, c, "ok", "at first")
	redisBefore, before, began := calls(t, server, "hmget"), store.reads.Load(), time.Now()
	random := mathrand.NewChaCha8([32]byte{3})
	for range 1_000_000 {
		key, err := identity.NewKey(random)
		if err != nil {
			t.Fatal(err)
		}
		if says(d, key.Text()) != "unauthenticated" {
			t.Fatal("a random key opens")
		}
	}
	took := time.Since(began)
	fromRedis, fromOrigin := calls(t, server, "hmget")-redisBefore, int(store.reads.Load()-before)
	t.Logf("%d reads of Redis and %d of the origin for a million random keys in %v", fromRedis, fromOrigin, took)
	if most := int(newcomerReads*(took.Seconds()+1)) + 10; fromRedis > most || fromOrigin > most {
		t.Errorf("want at most %d of each", most)
	}
}

func TestARedisThatIsDeadCostsNothing(t *testing.T) {
	t.Parallel()
	r, err := Connect(RedisConfig{
		Sentinels: []string{"127.0.0.1:1"}, Master: "nobody", Logger: slog.New(slog.DiscardHandler),
	}, testStale)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range failuresToOpen {
		if _, err := r.get(t.Context(), "keys/a"); err == nil {
			t.Fatal("nobody answered")
		}
	}
	began := time.Now()
	for range 1000 {
		_, _ = r.get(context.Background(), "keys/a")
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("a thousand reads of a dead Redis took %v", took)
	}
}

// TestSentinelsAreFollowed: they are not known at first, then all of them move.
func TestSentinelsAreFollowed(t *testing.T) {
	t.Parallel()
	servers := startRedis(t)
	r, err := Connect(RedisConfig{
		Master: testbed.RedisMaster, Username: testbed.RedisUser, Password: testbed.RedisPassword,
		SentinelPassword: testbed.SentinelPassword, Logger: slog.New(slog.DiscardHandler),
	}, testStale)
	if err != nil {
		t.Fatal(err)
	}
	answers := func() bool {
		_, err := r.get(t.Context(), "keys/a")
		return err == nil
	}
	if answers() {
		t.Fatal("nobody said where Redis is, and it answers")
	}
	for _, elsewhere := range [][]string{{"127.0.0.1:1"}, servers.Sentinels(), nil, {"127.0.0.1:2", servers.Sentinels()[1]}} {
		r.Follow(elsewhere)
		if len(elsewhere) == 1 {
			if answers() {
				t.Error("nobody is there, and it answers")
			}
			continue
		}
		eventually(t, 10*time.Second, "Redis answers", answers)
	}
	before := r.client.Load()
	if r.Follow(servers.Sentinels()); r.client.Load() != before {
		t.Error("Sentinels that are known made a new connection")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Follow([]string{"127.0.0.1:3"}); r.client.Load() != before {
		t.Error("a closed Redis was opened again")
	}
}

func TestWhatRedisHasThatIsNoDocument(t *testing.T) {
	for _, fields := range [][]any{{}, {nil}, {"x", "1", "d"}, {"1", "x", "d"}, {"0", "1", "d"}, {"-1", "1", "d"}, {nil, "1", "d"}, {"9007199254740993", "1", "d"}, {5, "1", "d"}} {
		if k, err := parseKept("keys/a", fields); err == nil {
			t.Errorf("%v is %+v", fields, k)
		}
	}
}
