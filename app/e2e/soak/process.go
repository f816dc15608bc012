package soak

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// asProgram makes the test binary be the program.
const asProgram = "HOOKBRIDGE_SOAK_AS_PROGRAM"

// Process is one bridge that is started again whenever it has ended, as by a
// supervisor, until it is stopped.
type Process struct {
	n       int
	env     []string
	addr    string // fixed, so that clients find it again
	history *History

	mu       sync.Mutex // guards what follows
	cmd      *exec.Cmd
	held     bool // it is not to be started again for now
	expected bool // somebody ended it on purpose
	starts   int
	serving  bool
	tail     []string // its last log lines
	over     bool
	limit    uint64        // of the size of its files, bytes
	killAt   string        // see KillAt
	ended    chan struct{} // closed when the supervisor has left
}

// StartProcess begins to supervise one.
func StartProcess(n int, h *History, env []string) (*Process, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Process{n: n, addr: ln.Addr().String(), history: h, limit: unix.RLIM_INFINITY, ended: make(chan struct{})}
	if err := ln.Close(); err != nil {
		return nil, err
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "BRIDGE_") && !strings.HasPrefix(kv, "FLY_") {
			p.env = append(p.env, kv)
		}
	}
	p.env = append(append(p.env, asProgram+"=1", "BRIDGE_LISTEN="+p.addr), env...)
	go p.supervise()
	return p, nil
}

func (p *Process) supervise() {
	defer close(p.ended)
	for {
		p.mu.Lock()
		over, held := p.over, p.held
		p.mu.Unlock()
		if over {
			return
		}
		if held {
			time.Sleep(10 * time.Millisecond) // a poll of what only another goroutine changes
			continue
		}
		if !p.run() {
			time.Sleep(200 * time.Millisecond) // it did not come up: a supervisor waits before it tries again
		}
	}
}

// run starts the process and waits for its end; false where it never listened.
func (p *Process) run() bool {
	cmd := exec.Command(os.Args[0], "serve")
	cmd.Env = p.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		p.history.Note("harness", "process %d: %v", p.n, err)
		return false
	}
	p.mu.Lock()
	if p.held || p.over {
		p.mu.Unlock()
		return false
	}
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		p.history.Note("harness", "process %d does not start: %v", p.n, err)
		return false
	}
	p.cmd, p.expected, p.serving = cmd, false, false
	p.starts++
	p.applyLimit()
	p.mu.Unlock()
	p.follow(out)
	err = cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	served := p.serving
	p.cmd, p.serving = nil, false
	if served && !p.expected {
		p.history.Note("ended by itself", "process %d: %v\n%s", p.n, err, strings.Join(p.tail, "\n"))
	}
	return served
}

// follow reads what the process logs, and looks for what must never be there.
func (p *Process) follow(out io.Reader) {
	in := bufio.NewReaderSize(out, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			p.logged(line)
		}
		if err != nil {
			return
		}
	}
}

func (p *Process) logged(line []byte) {
	if bytes.Contains(line, []byte(canary)) {
		p.history.Note("payload in the log", "process %d: %.300s", p.n, line)
	}
	for _, bad := range []string{"panic", "DATA RACE", "fatal error:"} {
		if bytes.Contains(line, []byte(bad)) {
			p.history.Note("panic", "process %d: %.2000s", p.n, line)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tail = append(p.tail, strings.TrimSpace(string(line))); len(p.tail) > 40 {
		p.tail = p.tail[1:]
	}
	var l struct{ Msg string }
	if json.Unmarshal(line, &l) == nil && l.Msg == "listening" {
		p.serving = true
	}
}

// Serving tells whether it has said that it listens.
func (p *Process) Serving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving
}

// Tail is the last of its log.
func (p *Process) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

// Signal sends the running process a signal; nothing where none runs.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM {
		p.expected = true
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) { // it may have ended meanwhile
		p.history.Note("harness", "signal %v to process %d: %v", sig, p.n, err)
	}
}

// Hold ends the process with a signal and keeps it from being started again
// until Release. It returns when the process is gone.
func (p *Process) Hold(sig syscall.Signal) {
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	p.Signal(sig)
	for range 3000 {
		p.mu.Lock()
		gone := p.cmd == nil
		p.mu.Unlock()
		if gone {
			return
		}
		time.Sleep(10 * time.Millisecond) // a poll of the supervisor's word
	}
	p.history.Note("does not stop", "process %d got %v 30 s ago", p.n, sig)
	p.Signal(syscall.SIGKILL)
}

// What KillAt waits for.
const (
	anEvent = "event" // an answer to a webhook
	aSend   = "send"  // an answer to what a user sent
	anAck   = "ack"   // an answer to an ack
)

// KillAt ends the process, and holds it as Hold does, the moment it has answered one of
// a kind: what it has answered must be kept already. It waits for that only for a while.
func (p *Process) KillAt(kind string) {
	p.mu.Lock()
	p.killAt = kind
	p.mu.Unlock()
	for range 300 {
		p.mu.Lock()
		waits := p.killAt != ""
		p.mu.Unlock()
		if !waits {
			break
		}
		time.Sleep(10 * time.Millisecond) // a poll of those who get answers
	}
	p.mu.Lock()
	p.killAt = ""
	p.mu.Unlock()
	p.Hold(syscall.SIGKILL)
}

// answered is told of each answer, before anything else is done with it.
func (p *Process) answered(kind string) {
	p.mu.Lock()
	now := p.killAt == kind
	if now {
		p.killAt, p.held = "", true
	}
	p.mu.Unlock()
	if now {
		p.Signal(syscall.SIGKILL)
	}
}

// Release lets it be started again.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
}

// Stop ends it for good.
func (p *Process) Stop() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// LimitFiles keeps the process, and those that are started after it, from writing
// files beyond so many bytes: a full disk. unix.RLIM_INFINITY frees it again.
func (p *Process) LimitFiles(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = n
	if p.cmd != nil {
		p.applyLimit()
	}
}

// applyLimit holds the running process to the limit; mu is held.
func (p *Process) applyLimit() {
	err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: p.limit, Max: unix.RLIM_INFINITY}, nil)
	if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended meanwhile
		p.history.Note("harness", "limit of process %d: %v", p.n, err)
	}
}
