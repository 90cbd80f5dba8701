package testbed

import "testing"

func TestRedisElectsAnotherMaster(t *testing.T) {
	t.Parallel()
	r := StartRedis(t)
	first := r.Master()
	if first != r.Servers[0] {
		t.Errorf("%s leads at the start, not %s", first.Address, r.Servers[0].Address)
	}
	if said, err := first.Ask("SET", "a", "1"); err != nil || said[0] != "OK" {
		t.Fatal(said, err)
	}
	if said, err := first.Ask("WAIT", "2", "1000"); err != nil || said[0] != "2" {
		t.Fatalf("%s replicas have it: %v", said, err)
	}
	first.Kill()
	second := r.Master()
	if said, err := second.Ask("GET", "a"); err != nil || said[0] != "1" {
		t.Errorf("the new master has %q: %v", said, err)
	}
	r.KillAll()
	if said, err := second.Ask("PING"); err == nil {
		t.Errorf("a killed server says %q", said)
	}
	r.RestartAll()
	if said, err := r.Master().Ask("GET", "a"); err != nil || said[0] != "1" {
		t.Errorf("after all were away, the master has %q: %v", said, err)
	}
}

func TestAFrozenRedisIsReplaced(t *testing.T) {
	t.Parallel()
	r := StartRedis(t, "~lightcone:*", "+get")
	first := r.Master()
	first.Freeze()
	if second := r.Master(); second == first {
		t.Error("the frozen master is still the master")
	}
	first.Thaw()
	if r.Master() == first {
		t.Error("the thawed master leads again")
	}
}
