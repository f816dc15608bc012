package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// Do runs one command over a connection of its own; the test fails where that does, or the
// server answers with an error. Whoever waits for a server that starts, ends or changes its
// role takes Try.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	out, err := s.Try(args...)
	if err != nil {
		s.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

// Try is Do for a server that may not answer. The reply is text as redis-cli prints it: a
// line for each element of a list.
func (s *Server) Try(args ...string) (string, error) {
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, command.String()); err != nil {
		return "", err
	}
	out, err := readReply(bufio.NewReader(c))
	return strings.TrimSpace(out), err
}

// readReply reads one reply of Redis' protocol, version 2. An error that the server answers
// with is an error.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, text := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '+', ':':
		return text, nil
	case '-':
		return "", errors.New(text)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return "", fmt.Errorf("the server answers %q", line)
	}
	if n < 0 {
		return "", nil
	}
	if kind == '$' {
		b := make([]byte, n+len("\r\n"))
		_, err := io.ReadFull(r, b)
		return string(b[:n]), err
	}
	list := make([]string, n)
	for i := range list {
		if list[i], err = readReply(r); err != nil {
			return "", err
		}
	}
	return strings.Join(list, "\n"), nil
}
