package testbed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// askBound is how long a server may take to answer Ask.
const askBound = 2 * time.Second

// Ask sends one command, as the operator, and returns the strings and numbers of
// the reply, one after the other, however they were nested.
func (s *RedisServer) Ask(command ...string) ([]string, error) {
	connection, err := net.DialTimeout("tcp", s.Address, askBound)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(askBound)); err != nil {
		return nil, err
	}
	login := []string{"AUTH", RedisOperator, OperatorPassword}
	if filepath.Base(s.program) == "redis-sentinel" {
		login = []string{"AUTH", SentinelPassword}
	}
	if _, err := io.WriteString(connection, encode(login)+encode(command)); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(connection)
	if _, err := readReply(reader); err != nil {
		return nil, fmt.Errorf("log in to %s: %w", s.Address, err)
	}
	return readReply(reader)
}

// fields is the reply to a command that answers names and values in turn; empty
// when there is none.
func (s *RedisServer) fields(command ...string) map[string]string {
	said, _ := s.Ask(command...)
	found := make(map[string]string)
	for i := 0; i+1 < len(said); i += 2 {
		found[said[i]] = said[i+1]
	}
	return found
}

// encode writes a command as the Redis serialization protocol has it
// (redis.io/docs/latest/develop/reference/protocol-spec).
func encode(command []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	return b.String()
}

// readReply reads a reply of version 2 of the protocol.
func readReply(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	if kind == '-' {
		return nil, errors.New(rest)
	}
	if kind == '+' || kind == ':' {
		return []string{rest}, nil
	}
	count, err := strconv.Atoi(rest)
	if err != nil {
		return nil, fmt.Errorf("reply %q: %w", line, err)
	}
	if kind == '$' {
		text := make([]byte, max(count, 0)+2) // and the line's end; -1 is nil, with neither
		if count < 0 {
			return []string{""}, nil
		}
		_, err := io.ReadFull(r, text)
		return []string{string(text[:count])}, err
	}
	var all []string
	for range count {
		part, err := readReply(r)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}
