package consul

import (
	"errors"
	"testing"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newAgent(t).scheduler()
	const key = "lightcone/scheduler/a b"
	if _, found, err := c.Get(ctx, key); found || err != nil {
		t.Fatalf("before the first write: found %v, %v", found, err)
	}
	set := func(value string, index uint64, want bool) {
		t.Helper()
		if ok, err := c.CompareAndSet(ctx, key, []byte(value), index); ok != want || err != nil {
			t.Fatalf("set %q at %d: %v, %v, want %v", value, index, ok, err, want)
		}
	}
	set("1", 99, false)
	set("1", 0, true)
	set("2", 0, false)
	first, found, err := c.Get(ctx, key)
	if !found || err != nil || string(first.Value) != "1" || first.Key != key || first.Index == 0 {
		t.Fatalf("got %+v, %v, %v", first, found, err)
	}
	set("2", first.Index, true)
	set("3", first.Index, false)
	if ok, err := c.CompareAndSet(ctx, "lightcone/scheduler/z", nil, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	all, err := c.List(ctx, "lightcone/scheduler/")
	if err != nil || len(all) != 2 || string(all[0].Value) != "2" || all[1].Key != "lightcone/scheduler/z" {
		t.Fatalf("listed %+v, %v", all, err)
	}
	if none, err := c.List(ctx, "lightcone/scheduler/none/"); err != nil || len(none) != 0 {
		t.Fatalf("listed %+v, %v", none, err)
	}
	for range 2 {
		if err := c.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := c.Get(ctx, key); found || err != nil {
		t.Fatalf("after the deletion: found %v, %v", found, err)
	}
	if _, err := c.CompareAndSet(ctx, "elsewhere", nil, 0); err == nil {
		t.Error("the scheduler's token wrote elsewhere")
	}
	if _, _, err := c.Get(ctx, "elsewhere"); err == nil || errors.Is(err, ErrNotLeader) {
		t.Errorf("the scheduler's token read elsewhere: %v", err)
	}
}
