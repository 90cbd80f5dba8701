package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a test's Redis is called, and who may use it. There is no default user.
const (
	RedisMaster      = "lightcone" // the master's name among the Sentinels
	RedisUser        = "lightcone" // an ACL user who is granted what StartRedis is told
	RedisPassword    = "of-lightcone"
	RedisOperator    = "operator" // an ACL user who may do everything
	OperatorPassword = "of-the-operator"
	SentinelPassword = "of-the-sentinels" // for clients of the Sentinels, without a user
)

// redisBound is how long servers and Sentinels may take to find each other, or a
// new master, on a busy machine.
const redisBound = time.Minute

// Redis is a master with two replicas, and the three Sentinels that watch them: two
// of these must agree that the master is down, after half a second of its silence.
type Redis struct {
	Servers []*RedisServer // the first was the master at the start
	Guards  []*RedisServer // the Sentinels
	t       testing.TB
}

// RedisServer is a process of redis-server or redis-sentinel.
type RedisServer struct {
	*process
	Address string // host:port
}

// StartRedis starts all six and waits until they have found each other. rules
// are what RedisUser may do, in the words of ACL SETUSER; without any it may do
// everything that is not dangerous below lightcone:.
func StartRedis(t testing.TB, rules ...string) *Redis {
	t.Helper()
	if len(rules) == 0 {
		rules = []string{"~lightcone:*", "&lightcone:*", "+@all", "-@dangerous", "+info"}
	}
	r, ports, folder := &Redis{t: t}, Ports(t, 6), t.TempDir()
	users := "user default off\n" +
		"user " + RedisUser + " on >" + RedisPassword + " " + strings.Join(rules, " ") + "\n" +
		"user " + RedisOperator + " on >" + OperatorPassword + " ~* &* +@all\n"
	for i, port := range ports[:3] {
		config := fmt.Sprintf("bind 127.0.0.1\nport %d\nsave \"\"\nappendonly yes\nrepl-diskless-sync-delay 0\nmasteruser %s\nmasterauth %s\n%s", port, RedisOperator, OperatorPassword, users)
		if i > 0 {
			config += fmt.Sprintf("replicaof 127.0.0.1 %d\n", ports[0])
		}
		r.Servers = append(r.Servers, startRedis(t, folder, "redis-server", port, config))
	}
	// The Sentinels come last: they ask a master for its replicas every ten seconds.
	r.Servers[0].await(redisBound, "the replicas have what the master has", func() bool {
		said, err := r.Servers[0].Ask("INFO", "replication")
		return err == nil && strings.Count(said[0], "state=online") == 2
	})
	for _, port := range ports[3:] {
		config := fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\nsentinel sentinel-pass %[2]s\n", port, SentinelPassword) +
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2\n", RedisMaster, ports[0]) +
			fmt.Sprintf("sentinel auth-user %s %s\nsentinel auth-pass %[1]s %[3]s\n", RedisMaster, RedisOperator, OperatorPassword) +
			fmt.Sprintf("sentinel down-after-milliseconds %s 500\nsentinel failover-timeout %[1]s 2000\n", RedisMaster)
		r.Guards = append(r.Guards, startRedis(t, folder, "redis-sentinel", port, config))
	}
	for _, guard := range r.Guards {
		guard.await(redisBound, "the Sentinel knows two replicas and two other Sentinels", func() bool {
			known := guard.fields("SENTINEL", "MASTER", RedisMaster)
			return known["num-slaves"] == "2" && known["num-other-sentinels"] == "2" && known["flags"] == "master"
		})
	}
	return r
}

// startRedis starts one process. Debian has one executable for all of Redis, which
// does what its name says: with links of our own it is enough that redis-tools
// is installed, which starts no daemon.
func startRedis(t testing.TB, folder, name string, port int, config string) *RedisServer {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		installed, err := exec.LookPath("redis-check-rdb")
		if err != nil {
			t.Fatalf("find %s: %v; install Debian's redis-tools", name, err)
		}
		program = filepath.Join(folder, name)
		if err := os.Symlink(installed, program); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	own := filepath.Join(folder, fmt.Sprint(name, "-", port))
	file := filepath.Join(own, "redis.conf")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(config+"dir "+own+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &RedisServer{Address: loopback(port)}
	s.process = newProcess(t, own, program, file)
	return s
}

// Sentinels are the Sentinels' addresses.
func (r *Redis) Sentinels() []string {
	var addresses []string
	for _, guard := range r.Guards {
		addresses = append(addresses, guard.Address)
	}
	return addresses
}

// Master is the server that the Sentinels call master and that takes itself for
// it. It waits for one.
func (r *Redis) Master() *RedisServer {
	r.t.Helper()
	for deadline := time.Now().Add(redisBound); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, guard := range r.Guards {
			said, err := guard.Ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", RedisMaster)
			if err != nil || len(said) != 2 {
				continue
			}
			for _, server := range r.Servers {
				if strings.HasSuffix(server.Address, ":"+said[1]) && server.leads() {
					return server
				}
			}
		}
	}
	r.t.Fatalf("no master within %v", redisBound)
	return nil
}

func (s *RedisServer) leads() bool {
	role, err := s.Ask("ROLE")
	return err == nil && len(role) > 0 && role[0] == "master"
}

// KillAll kills the servers and the Sentinels.
func (r *Redis) KillAll() {
	for _, one := range slices.Concat(r.Servers, r.Guards) {
		one.Kill()
	}
}

// RestartAll starts those again that were killed, on the same data and ports, and
// waits for a master.
func (r *Redis) RestartAll() {
	r.t.Helper()
	for _, one := range slices.Concat(r.Servers, r.Guards) {
		select {
		case <-one.exited:
			one.Restart()
		default:
		}
	}
	r.Master()
}

// Restart starts a killed process again, on the same data and port, and waits
// until it answers.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.start()
	s.await(redisBound, "it answers", func() bool {
		_, err := s.Ask("PING")
		return err == nil
	})
}
