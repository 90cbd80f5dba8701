package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"lightcone/queue"
)

// nodeEnv makes this program one of the queue's nodes: a queue.NodeConfig as JSON.
const nodeEnv = "LIGHTCONE_BENCH_NODE"

const (
	queueNodes    = 3
	queueUser     = "bench"
	queuePassword = "bench-password"
	benchStore    = 32 << 30 // bytes that each node may keep
)

// serveNode is the process of one node.
func serveNode(text string) error {
	config := queue.NodeConfig{}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	node, err := queue.StartNode(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	bound, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return node.Stop(bound)
}

// nodes are three processes on this machine, one cluster.
type nodes struct {
	dir      string
	configs  [queueNodes]queue.NodeConfig
	children [queueNodes]*child
	servers  []string
}

func startNodes() (*nodes, error) {
	dir, err := os.MkdirTemp("", "lightcone-bench-queue-")
	if err != nil {
		return nil, err
	}
	n := &nodes{dir: dir}
	ca, caKey, err := queue.NewAuthority(time.Now())
	if err != nil {
		return n, err
	}
	certificate, key, err := queue.NewCertificate(time.Now(), ca, caKey)
	if err != nil {
		return n, err
	}
	var routes []string
	for range queueNodes {
		server, err := freeAddress()
		if err != nil {
			return n, err
		}
		route, err := freeAddress()
		if err != nil {
			return n, err
		}
		n.servers, routes = append(n.servers, server), append(routes, route)
	}
	for i := range n.configs {
		n.configs[i] = queue.NodeConfig{
			Seat: fmt.Sprint(i), Dir: filepath.Join(dir, fmt.Sprint(i)), Listen: n.servers[i],
			Routes: &queue.RouteConfig{Listen: routes[i], Size: queueNodes, Password: queuePassword},
			User:   queueUser, Password: queuePassword, CA: ca, Certificate: certificate, Key: key,
			MaxStoreBytes: benchStore,
		}
		for j, route := range routes {
			if j != i {
				n.configs[i].Routes.Peers = append(n.configs[i].Routes.Peers, route)
			}
		}
		if err := n.start(i); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (n *nodes) start(i int) error {
	text, err := json.Marshal(n.configs[i])
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n.children[i], err = startChild(self, []string{nodeEnv + "=" + string(text)})
	return err
}

// connect makes a client, and waits until the queue can be used.
func (n *nodes) connect(ctx context.Context) (*queue.Client, error) {
	tls, err := queue.ClientTLS(n.configs[0].CA)
	if err != nil {
		return nil, err
	}
	client, err := queue.Connect(queue.Config{
		Servers: n.servers, User: queueUser, Password: queuePassword, TLS: tls, Name: "bench", Replicas: queueNodes,
		Limits: queue.Limits{TenantShare: 1_000_000, MaxBytes: benchStore / 8}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	if err := n.await(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// await waits until the queue can be used.
func (n *nodes) await(ctx context.Context, client *queue.Client) error {
	var last error
	err := n.children[0].await(ctx, func() bool { last = client.Ready(); return last == nil })
	if err != nil {
		return fmt.Errorf("%w (%w)", err, last)
	}
	return nil
}

// resident is the memory of all nodes, in MiB.
func (n *nodes) resident() (total float64, err error) {
	for _, c := range n.children {
		one, err := residentMiB(c.pid())
		if err != nil {
			return 0, err
		}
		total += one
	}
	return total, nil
}

func (n *nodes) stop() {
	for _, c := range n.children {
		if c != nil {
			c.stop()
		}
	}
	_ = os.RemoveAll(n.dir)
}
