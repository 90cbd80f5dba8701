package callback_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameserver answers for names over UDP, on loopback: each question with the next
// of the name's answers, and the last one again and again.
type nameserver struct {
	mu      sync.Mutex
	answers map[string][][]netip.Addr // by name with its dot
	asked   map[string]int            // questions for IPv4 addresses
}

// startNameserver starts one, and returns the resolver that asks nobody else.
func startNameserver(t *testing.T, answers map[string][][]netip.Addr) (*nameserver, *net.Resolver) {
	t.Helper()
	connection, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &nameserver{answers: answers, asked: make(map[string]int)}
	var serving sync.WaitGroup
	serving.Go(func() { server.serve(connection) })
	t.Cleanup(func() {
		_ = connection.Close()
		serving.Wait()
	})
	return server, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", connection.LocalAddr().String())
	}}
}

func (n *nameserver) serve(connection net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		length, from, err := connection.ReadFrom(buffer)
		if err != nil {
			return // closed
		}
		var query dnsmessage.Message
		if query.Unpack(buffer[:length]) != nil || len(query.Questions) != 1 {
			continue
		}
		reply := n.reply(query)
		if packed, err := reply.Pack(); err == nil {
			_, _ = connection.WriteTo(packed, from) // who does not hear it asks again
		}
	}
}

func (n *nameserver) reply(query dnsmessage.Message) dnsmessage.Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	question := query.Questions[0]
	name := question.Name.String()
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true}, Questions: query.Questions}
	answers, known := n.answers[name]
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
		return reply
	}
	turn := n.asked[name]
	if question.Type == dnsmessage.TypeA {
		n.asked[name]++
	}
	header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET} // TTL 0, as rebinding has it
	for _, address := range answers[min(turn, len(answers)-1)] {
		switch {
		case address.Is4() && question.Type == dnsmessage.TypeA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		case address.Is6() && question.Type == dnsmessage.TypeAAAA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
		}
	}
	return reply
}

// questions are how often a name's IPv4 addresses were asked for.
func (n *nameserver) questions(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name]
}

// always are names with one answer each.
func always(names map[string][]string) map[string][][]netip.Addr {
	answers := make(map[string][][]netip.Addr)
	for name, addresses := range names {
		answers[name] = [][]netip.Addr{addressesOf(addresses...)}
	}
	return answers
}

func addressesOf(texts ...string) []netip.Addr {
	var addresses []netip.Addr
	for _, text := range texts {
		addresses = append(addresses, netip.MustParseAddr(text))
	}
	return addresses
}
