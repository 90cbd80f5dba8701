package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lightcone/internal/retry"
)

const (
	// masterBound is within what the Sentinels elect another master: 2 s of silence,
	// up to a second until the next ping, the election; if no candidate gets a
	// majority they try again after 10 s.
	masterBound = 20 * time.Second

	// revokedBound is within what every gateway refuses a revoked key as long as it
	// hears of it, by Redis or by the audit trail in Consul. revokedBoundAlone is for
	// when Redis is away: a gateway then has what it knows for 30 s, and reads again.
	revokedBound      = 5 * time.Second
	revokedBoundAlone = 35 * time.Second

	redisAway    = 20 * time.Second
	identityAway = 15 * time.Second

	redisPort, sentinelPort = "6379", "26379"
)

// killRedisMaster kills the master while a key is being revoked.
func (d *drills) killRedisMaster(ctx context.Context) error {
	guest, err := d.admitGuest(ctx)
	if err != nil {
		return err
	}
	master, err := d.redisMaster(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.signalRedis(ctx, "SIGKILL", []string{"redis"}, func(h host) bool { return h == master }); err != nil {
		return err
	}
	if err := d.revoke(ctx, guest, revokedBound); err != nil {
		return err
	}
	next := master
	err = waitUntil(ctx, masterBound, func() bool {
		next, err = d.redisMaster(ctx)
		return err == nil && next != master
	})
	if err != nil {
		return fmt.Errorf("no other master takes writes, last %s: %w", next.Name, err)
	}
	d.note("rack %s's server was master; rack %s's takes writes %.1f s after", master.Rack, next.Rack, time.Since(began).Seconds())
	return nil
}

// stopRedis stops all servers and Sentinels while a key is being revoked.
func (d *drills) stopRedis(ctx context.Context) error {
	guest, err := d.admitGuest(ctx)
	if err != nil {
		return err
	}
	return d.withoutRedis(ctx, func() error {
		began := time.Now()
		if err := d.revoke(ctx, guest, revokedBoundAlone); err != nil {
			return err
		}
		return retry.Pause(ctx, redisAway-time.Since(began))
	})
}

// stopIdentity stops Redis and then Consul's server, too.
func (d *drills) stopIdentity(ctx context.Context) error {
	revoked, err := d.admitGuest(ctx)
	if err != nil {
		return err
	}
	kept, err := d.admitGuest(ctx)
	if err != nil {
		return err
	}
	if err := d.revoke(ctx, revoked, revokedBound); err != nil {
		return err
	}
	err = d.withoutRedis(ctx, func() error {
		return d.withoutConsul(ctx, func() error {
			began := time.Now()
			_, refused := d.operate(ctx, "key", "revoke", kept.id)
			if refused == nil {
				return errors.New("a key was revoked while nothing can be written down")
			}
			d.note("revoking meanwhile: %v", refused)
			for time.Since(began) < identityAway {
				if open := revoked.admittedBy(ctx); len(open) > 0 {
					return fmt.Errorf("what was revoked before is accepted again by %v", open)
				}
				if open := kept.admittedBy(ctx); len(open) < len(kept.gateways) {
					return fmt.Errorf("a key that is known is accepted by %v only", open)
				}
				if err := retry.Pause(ctx, 200*time.Millisecond); err != nil {
					return err
				}
			}
			d.note("for %.0f s, what was revoked before stayed refused and what was known was accepted", time.Since(began).Seconds())
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := waitUntil(ctx, time.Minute, func() bool { _, err := d.leader(ctx); return err == nil }); err != nil {
		return fmt.Errorf("no scheduler leads again: %w", err)
	}
	// Consul's server has to elect itself again, and says so to who comes too early.
	var refused error
	if waitUntil(ctx, time.Minute, func() bool {
		_, refused = d.operate(ctx, "key", "revoke", kept.id)
		return refused == nil
	}) != nil {
		return refused
	}
	return d.revoke(ctx, kept, revokedBound) // revoked already: it is for the gateways to know
}

// guest is a key that is made for a drill, and the gateways that know it.
type guest struct {
	id, key  string
	gateways []string // addresses: a load balancer would show one of them at a time
}

// admitGuest makes a second key for the tenant demo, and has every gateway see it.
func (d *drills) admitGuest(ctx context.Context) (guest, error) {
	key, err := d.operate(ctx, "key", "create", "demo", "--scope", "resize")
	if err != nil {
		return guest{}, err
	}
	parts := strings.Split(key, "_") // lc_<id>_<secret>
	if len(parts) < 3 {
		return guest{}, errors.New("what `lightcone key create` printed is no key")
	}
	instances, err := d.consul.Instances(ctx, "gateway")
	if err != nil {
		return guest{}, err
	}
	g := guest{id: parts[1], key: key}
	for _, instance := range instances {
		g.gateways = append(g.gateways, instance.Address)
	}
	if err := waitUntil(ctx, revokedBound, func() bool { return len(g.admittedBy(ctx)) == len(g.gateways) }); err != nil {
		return guest{}, fmt.Errorf("a new key is accepted by %v, of the gateways %v: %w", g.admittedBy(ctx), g.gateways, err)
	}
	return g, nil
}

// admittedBy are the gateways that accept the key. They are asked to resize what is
// no image: that needs a key, and little else.
func (g guest) admittedBy(ctx context.Context) (admitting []string) {
	for _, gateway := range g.gateways {
		if status, err := g.call(ctx, gateway); err == nil && status != http.StatusUnauthorized && status != http.StatusForbidden {
			admitting = append(admitting, gateway)
		}
	}
	return admitting
}

func (g guest) call(ctx context.Context, gateway string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+gateway+"/function/resize?width=8", strings.NewReader("no image"))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+g.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// revoke revokes the key and waits until every gateway says 401.
func (d *drills) revoke(ctx context.Context, g guest, bound time.Duration) error {
	if _, err := d.operate(ctx, "key", "revoke", g.id); err != nil {
		return err
	}
	began := time.Now()
	seen := make(map[string]int)
	err := waitUntil(ctx, bound, func() bool {
		refused := 0
		for _, gateway := range g.gateways {
			status, err := g.call(ctx, gateway)
			if seen[gateway] = status; err == nil && status == http.StatusUnauthorized {
				refused++
			}
		}
		return refused == len(g.gateways)
	})
	if err != nil {
		return fmt.Errorf("%v after it was revoked, a key is answered %v: %w", bound, seen, err)
	}
	d.note("a revoked key was refused by all gateways after %.1f s (at most %.0f)", time.Since(began).Seconds(), bound.Seconds())
	return nil
}

// redisMaster is the host of the server that the Sentinels name and that takes a
// write, as gateways do it.
func (d *drills) redisMaster(ctx context.Context) (host, error) {
	var failed error
	for _, asked := range racks() {
		answer, err := d.askRedis(ctx, asked, sentinelPort, "sentinel.password", "sentinel", "get-master-addr-by-name", "lightcone")
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, h := range racks() {
			if !strings.HasPrefix(answer, h.Address+"\n") {
				continue
			}
			_, err := d.askRedis(ctx, h, redisPort, "redis.password", "--user", "lightcone", "hset", "lightcone:drill", "master", h.Name)
			return h, err
		}
	}
	return host{}, fmt.Errorf("no Sentinel names a master: %w", failed)
}

// askRedis runs one command of redis-cli against a host.
func (d *drills) askRedis(ctx context.Context, h host, port, passwordFile string, words ...string) (string, error) {
	password, err := os.ReadFile(filepath.Join(d.folder, passwordFile))
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "redis-cli", append([]string{"-e", "-h", h.Address, "-p", port}, words...)...)
	command.Env = append(os.Environ(), "REDISCLI_AUTH="+strings.TrimSpace(string(password)))
	answer, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("redis-cli at %s:%s: %w: %s", h.Address, port, err, strings.TrimSpace(string(answer)))
	}
	return string(answer), nil
}

// signalRedis sends a signal to tasks of the Redis job on the hosts that are meant.
func (d *drills) signalRedis(ctx context.Context, signal string, tasks []string, meant func(host) bool) error {
	running, err := d.running(ctx, "redis")
	if err != nil {
		return err
	}
	sent := 0
	for _, h := range racks() {
		for _, allocation := range running {
			if allocation.Node != h.Name || !meant(h) {
				continue
			}
			for _, task := range tasks {
				if err := d.nomad.Signal(ctx, allocation.ID, task, signal); err != nil {
					return err
				}
				sent++
			}
		}
	}
	if sent == 0 {
		return fmt.Errorf("no task of the job redis was there for %s", signal)
	}
	return nil
}

// withoutRedis does something while all servers and Sentinels stand still, and
// waits until they take writes again.
func (d *drills) withoutRedis(ctx context.Context, do func() error) error {
	all, everywhere := []string{"sentinel", "redis"}, func(host) bool { return true }
	err := d.signalRedis(ctx, "SIGSTOP", all, everywhere)
	if err == nil {
		err = do()
	}
	// Also when the drill is over: nothing else would ever wake them.
	awake, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := errors.Join(err, d.signalRedis(awake, "SIGCONT", all, everywhere)); err != nil {
		return err
	}
	if err := waitUntil(ctx, masterBound, func() bool { _, err := d.redisMaster(ctx); return err == nil }); err != nil {
		return fmt.Errorf("no Redis server takes writes again: %w", err)
	}
	return nil
}

// withoutConsul does something while Consul's server stands still.
func (d *drills) withoutConsul(ctx context.Context, do func() error) error {
	server, err := d.process(consulOn(edge()))
	if err != nil {
		return err
	}
	if err := server.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err = do()
	return errors.Join(err, server.signal(syscall.SIGCONT))
}
