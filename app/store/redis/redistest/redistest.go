// Package redistest starts real Redis servers for tests, on free loopback ports,
// and ends them with the test.
package redistest

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hookbridge/app/expect"
)

// Server is one redis-server process, and what is left of it between two.
type Server struct {
	t    testing.TB
	args []string
	Addr string
	Dir  string

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has
	out   *expect.Output
}

// Start starts a server that keeps what it is given through a crash of its process: it
// writes an append-only file before it answers. It syncs it at no time, which would count
// if the machine crashed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Addr: freeAddr(t), Dir: dir}
	s.args = append([]string{"--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes",
		"--appendfsync", "no", "--daemonize", "no", "--loglevel", "warning",
		"--repl-diskless-sync-delay", "0"}, args...) // or each replica would wait 5 s for others to come
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.begin()
	return s
}

// begin starts the process for the first time: on another port where somebody else
// was faster.
func (s *Server) begin() {
	s.t.Helper()
	for range 10 {
		if s.start() {
			return
		}
		s.Kill()
		s.Addr = freeAddr(s.t)
	}
	s.t.Fatalf("redis-server does not start: %s", s.said())
}

// URL is what a store is opened with.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Restart starts the process again, on the same address and data.
func (s *Server) Restart() {
	s.t.Helper()
	if !s.start() {
		s.t.Fatalf("redis-server does not start again: %s", s.said())
	}
}

// start starts the process and waits until it answers, itself and nobody else at its
// address; false where it has ended before.
func (s *Server) start() bool {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	out, ended := &expect.Output{}, make(chan struct{})
	cmd := exec.Command("redis-server", append(slices.Clone(s.args), "--port", port)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd, s.out, s.ended = cmd, out, ended
	err = cmd.Start()
	s.mu.Unlock()
	if err != nil {
		s.t.Fatalf("redis-server (Debian's package of that name) does not start: %v", err)
	}
	go func() {
		_ = cmd.Wait() // its status says how it was ended, which we know
		close(ended)
	}()
	started := false
	expect.Eventually(s.t, "redis-server to answer", func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		started = s.Info("server", "process_id") == strconv.Itoa(cmd.Process.Pid)
		return started
	})
	return started
}

// said is what the process has written.
func (s *Server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// Pid of the process; 0 when it does not run.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Kill ends the process as a crash would.
func (s *Server) Kill() { s.end(os.Kill) }

// Stop ends it in order.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Logf("ending redis-server: %v", err)
	}
	<-s.ended
	s.cmd = nil
}

// Pause stops the process in its tracks, and Continue lets it go on.
func (s *Server) Pause()    { s.signal(syscall.SIGSTOP) }
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// StartReplica starts a server that follows another, and waits until it has it all, and the
// other one counts it among its replicas, which it does up to a second later.
func StartReplica(t testing.TB, of *Server, args ...string) *Server {
	t.Helper()
	host, port, err := net.SplitHostPort(of.Addr)
	if err != nil {
		t.Fatal(err)
	}
	r := Start(t, append([]string{"--replicaof", host + " " + port}, args...)...)
	r.untilFollowing()
	_, own, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	expect.Eventually(t, "the primary to count the replica", func() bool {
		info, err := of.Try("INFO", "replication")
		return err == nil && strings.Contains(info, "port="+own+",state=online")
	})
	return r
}

// untilFollowing waits until a replica follows its primary.
func (s *Server) untilFollowing() {
	s.t.Helper()
	expect.Eventually(s.t, "the replica to follow", func() bool { return s.Info("replication", "master_link_status") == "up" })
}

// Reigns tells whether a server answers, and is a primary: while it changes its role
// it may end connections.
func (s *Server) Reigns() bool {
	role, err := s.Try("ROLE")
	return err == nil && strings.HasPrefix(role, "master")
}

// Info is what the server's INFO says of a name; empty where it does not answer.
func (s *Server) Info(section, name string) string {
	info, err := s.Try("INFO", section)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Ports that are given out lie below those that the system takes for connections, or
// a server that restarts might find its own taken; so does a node's bus port, which is
// 10,000 above.
const firstPort, lastPort = 10_000, 22_000

var ports struct {
	sync.Mutex
	given map[int]bool
}

// freeAddr finds a port where nobody listens, a new one each time.
func freeAddr(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = make(map[int]bool)
	}
	for range lastPort - firstPort {
		port := firstPort + rand.IntN(lastPort-firstPort)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if ports.given[port] {
			continue
		}
		if ln, err := net.Listen("tcp", addr); err == nil {
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
			ports.given[port] = true
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Dump is all that a server has on disk.
func (s *Server) Dump() []byte {
	s.t.Helper()
	var all []byte
	err := filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
