package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lightcone/queue"
)

// children are what this program becomes when it starts itself.
var children = map[string]func(context.Context, []string) error{
	"node": becomeNode, "client": becomeClient, "worker": becomeWorker,
}

const (
	user       = "drill"
	storeBytes = 8 << 30 // that each node may keep
)

// secretFiles are what nodes and those who connect to them must have.
var secretFiles = []string{"ca", "certificate", "key", "password", "route-password"}

// makeSecrets makes a certificate authority, the nodes' certificate and passwords.
func makeSecrets(dir string) error {
	ca, caKey, err := queue.NewAuthority(time.Now())
	if err != nil {
		return err
	}
	certificate, key, err := queue.NewCertificate(time.Now(), ca, caKey)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(secretsOf(dir), 0o700); err != nil {
		return err
	}
	for i, secret := range [][]byte{ca, certificate, key, []byte("drill-password"), []byte("route-password")} {
		if err := os.WriteFile(filepath.Join(secretsOf(dir), secretFiles[i]), secret, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// readSecrets reads them, by their files' names.
func readSecrets(dir string) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for _, name := range secretFiles {
		secret, err := os.ReadFile(filepath.Join(secretsOf(dir), name))
		if err != nil {
			return nil, err
		}
		all[name] = secret
	}
	return all, nil
}

// connect makes a client of the nodes. dir is the drills' folder.
func connect(dir, name string, servers []string) (*queue.Client, error) {
	secrets, err := readSecrets(dir)
	if err != nil {
		return nil, err
	}
	tls, err := queue.ClientTLS(secrets["ca"])
	if err != nil {
		return nil, err
	}
	return queue.Connect(queue.Config{
		Servers: servers, User: user, Password: string(secrets["password"]), TLS: tls,
		Name: name, Replicas: len(network.Hosts), Logger: logger(),
		// The streams share the nodes' disk. Calls that are given back often must not wait for long, nor die of it.
		Limits: queue.Limits{MaxBytes: storeBytes / 8, BackOffBase: 50 * time.Millisecond, BackOffMost: 500 * time.Millisecond},
	})
}

func logger() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

// untilInputEnds is a context that ends when standard input does: when the drill says
// so, or is gone.
func untilInputEnds(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		}
		cancel()
	}()
	return ctx
}

// childFlags are those of every child.
type childFlags struct {
	*flag.FlagSet
	dir, servers, journal string
}

func newChildFlags(name string) *childFlags {
	f := &childFlags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.StringVar(&f.dir, "drills", "", "the drills' folder")
	f.StringVar(&f.servers, "servers", "", "nodes to connect to, separated by commas")
	f.StringVar(&f.journal, "journal", "", "file to note in")
	return f
}

// begin connects to the queue and opens the journal.
func (f *childFlags) begin(name string) (*queue.Client, journal, error) {
	client, err := connect(f.dir, name, strings.Split(f.servers, ","))
	if err != nil {
		return nil, journal{}, err
	}
	notes, err := openJournal(f.journal)
	return client, notes, err
}

func becomeClient(ctx context.Context, args []string) error {
	flags := newChildFlags("client")
	number := flags.Int("number", 0, "which client it is")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, notes, err := flags.begin(fmt.Sprintf("client-%d", *number))
	if err != nil {
		return err
	}
	defer client.Close()
	return (&clientProcess{queue: client, notes: notes, number: *number}).run(untilInputEnds(ctx))
}

func becomeWorker(ctx context.Context, args []string) error {
	flags := newChildFlags("worker")
	reluctant := flags.Bool("reluctant", false, "says mostly that it has no room")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, notes, err := flags.begin("worker")
	if err != nil {
		return err
	}
	defer client.Close()
	return (&workerProcess{queue: client, notes: notes, reluctant: *reluctant}).run(untilInputEnds(ctx))
}

// becomeNode runs a node. It prints a line when it listens, and then answers each line
// of its input with one.
func becomeNode(_ context.Context, args []string) error {
	flags := newChildFlags("node")
	index := flags.Int("index", 0, "which node it is")
	keep := flags.String("keep", "", "folder for what it keeps")
	if err := flags.Parse(args); err != nil {
		return err
	}
	secrets, err := readSecrets(flags.dir)
	if err != nil {
		return err
	}
	var peers []string
	for i, h := range network.Hosts {
		if i != *index {
			peers = append(peers, fmt.Sprintf("%s:%d", h.Address, routePort))
		}
	}
	node, err := queue.StartNode(queue.NodeConfig{
		Seat: fmt.Sprint(*index), Dir: *keep, Listen: serverOf(*index),
		Routes: &queue.RouteConfig{
			Listen: fmt.Sprintf("%s:%d", network.Hosts[*index].Address, routePort), Peers: peers, Size: len(network.Hosts),
			Password: string(secrets["route-password"]),
		},
		User: user, Password: string(secrets["password"]),
		CA: secrets["ca"], Certificate: secrets["certificate"], Key: secrets["key"],
		MaxStoreBytes: storeBytes, Logger: logger(),
	})
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for questions := bufio.NewScanner(os.Stdin); questions.Scan(); {
		fmt.Println(answerOf(node, questions.Text()))
	}
	ctx, cancel := context.WithTimeout(context.Background(), endBound/2)
	defer cancel()
	return node.Stop(ctx)
}

// answerOf answers yes, or else why not.
func answerOf(node *queue.Node, question string) string {
	err := errors.New("no")
	switch question {
	case "ready?":
		err = node.Ready()
	case "leads?":
		if node.Leads() {
			err = nil
		}
	}
	if err == nil {
		return "yes"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
