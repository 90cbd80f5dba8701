package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	tendEvery    = 2 * time.Second
	tendPatience = 5 * time.Second  // for one look, or one removal
	goneAfter    = 10 * time.Second // several elections: whoever is silent for so long is not just slow
)

// tender looks, now and then, at how complete the cluster is: every node for itself,
// and its leader for all.
type tender struct {
	node           *Node
	system, client *nats.Conn
	streams        jetstream.JetStream
	silent         silence // members, while this node leads; of run alone
	stop           context.CancelFunc
	done           chan struct{}

	mu     sync.Mutex
	lacked error // what this node did not have at the last look
}

// tend begins to look after n, in its own process.
func tend(n *Node) (*tender, error) {
	t := &tender{node: n, silent: make(silence), done: make(chan struct{}), lacked: errors.New("it has not looked at its streams yet")}
	var err error
	if t.system, err = t.connect(systemUser); err != nil {
		return nil, err
	}
	if t.client, err = t.connect(tenderUser); err != nil {
		t.system.Close()
		return nil, err
	}
	if t.streams, err = jetstream.New(t.client); err != nil {
		t.system.Close()
		t.client.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	go t.run(ctx)
	return t, nil
}

func (t *tender) connect(user string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(t.node), nats.UserInfo(user, t.node.secret),
		nats.Name("tender"), nats.MaxReconnects(-1), nats.ReconnectWait(tendEvery))
}

// close ends the looks.
func (t *tender) close() {
	t.stop()
	<-t.done
	t.system.Close()
	t.client.Close()
}

func (t *tender) run(ctx context.Context) {
	defer close(t.done)
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		lacked := t.lacks(ctx)
		t.mu.Lock()
		t.lacked = lacked
		t.mu.Unlock()
		t.removeLeftovers(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (t *tender) ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lacked
}

// lacks says which copy this node should have and has not: of each stream that is kept
// on as many nodes as there are seats.
func (t *tender) lacks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tendPatience)
	defer cancel()
	list := t.streams.ListStreams(ctx)
	var lacked error
	for info := range list.Info() {
		if info.Config.Replicas == t.node.config.Routes.Size && !hasCopy(info.Cluster, t.node.name) {
			lacked = errors.Join(lacked, fmt.Errorf("its copy of %s is not complete", info.Config.Name))
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("the streams cannot be listed: %w", err)
	}
	return lacked
}

func hasCopy(cluster *jetstream.ClusterInfo, name string) bool {
	if cluster == nil || cluster.Leader == "" {
		return false
	}
	if cluster.Leader == name {
		return true
	}
	for _, replica := range cluster.Replicas {
		if replica.Name == name {
			return replica.Current && !replica.Offline
		}
	}
	return false
}

// removeLeftovers has those leave the cluster whose seats others have taken, if this
// node leads it. What they kept is then copied to who took the seat.
func (t *tender) removeLeftovers(ctx context.Context) {
	if !t.node.server.JetStreamIsLeader() {
		t.silent = make(silence)
		return
	}
	state, err := t.node.server.Jsz(&server.JSzOptions{})
	if err != nil || state.Meta == nil {
		return // it has just stopped to lead
	}
	members := []member{{name: t.node.name, current: true}}
	for _, replica := range state.Meta.Replicas {
		// 0 is never: so it is of who has not said a word since this node leads. Whether
		// the server calls it offline, too, depends on how it left.
		heard := replica.Active > 0 && replica.Active < goneAfter
		members = append(members, member{
			id: replica.Peer, name: knownName(replica.Name),
			gone: t.silent.gone(replica.Peer, heard, time.Now()), current: replica.Current,
		})
	}
	for _, m := range leftovers(members, t.node.config.Routes.Size) {
		logger := t.node.config.Logger.With("node", t.node.name, "left", m.name, "id", m.id)
		if err := t.remove(ctx, m.id); err != nil {
			logger.Warn("a node whose seat another has taken is not removed yet", "error", err)
			return
		}
		logger.Info("removed a node whose seat another has taken")
	}
}

// remove takes the node with an id out of the cluster. JetStream agrees on it by
// quorum, and then places its copies on others.
func (t *tender) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, tendPatience)
	defer cancel()
	request, err := json.Marshal(server.JSApiMetaServerRemoveRequest{Peer: id})
	if err != nil {
		return err
	}
	reply, err := t.system.RequestWithContext(ctx, server.JSApiRemoveServer, request)
	if err != nil {
		return err
	}
	var answer server.JSApiMetaServerRemoveResponse
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	if !answer.Success {
		return errors.New("it was refused without a reason")
	}
	return nil
}
