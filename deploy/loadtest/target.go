package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// startPatience is how long a server may take until it listens.
	startPatience = 30 * time.Second
	// stopPatience is how long it may take to end in order.
	stopPatience = 20 * time.Second
	pollEvery    = 5 * time.Millisecond
)

// Secrets of the servers that loadtest starts. They listen on loopback alone.
var (
	ownWebhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of a load test, 32 bytes"))
	ownJWTSecret     = "a secret of a load test's tokens of 32 bytes or more"
)

// target is the server that is measured.
type target struct {
	url                      *url.URL
	webhookSecret, jwtSecret string
	processes                processes
	started                  []*child // in the order in which they were started
	dir                      string   // their files; removed at the end
}

// programFor is the path of the program to start, built where none is given; empty with --url. The caller
// calls remove at the end.
func programFor(ctx context.Context, o options, p *progress) (path string, remove func(), err error) {
	if o.URL != "" || o.Program != "" {
		return o.Program, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "loadtest-program")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // what stays behind is in the system's folder of temporary files
	path = filepath.Join(dir, "hookbridge")
	p.begin("building ./app")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "hookbridge/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("the program cannot be built; run loadtest in the repository, or give a built one with --program: %w\n%s", err, out)
	}
	return path, remove, nil
}

// startTarget starts a server for so many sessions, or takes the one that the options name.
func startTarget(ctx context.Context, o options, sessions int, program string) (t *target, err error) {
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		return &target{url: u, webhookSecret: o.WebhookSecret, jwtSecret: o.JWTSecret, processes: o.PID}, err
	}
	t = &target{webhookSecret: ownWebhookSecret, jwtSecret: ownJWTSecret}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.stop())
		}
	}()
	if t.dir, err = os.MkdirTemp("", "loadtest-data"); err != nil {
		return t, err
	}
	limit := fmt.Sprint(sessions + 1000)
	env := []string{"BRIDGE_LISTEN=127.0.0.1:0", "BRIDGE_DATA_DIR=" + t.dir, "BRIDGE_WEBHOOK_SECRETS=" + t.webhookSecret, "BRIDGE_JWT_SECRET=" + t.jwtSecret,
		"BRIDGE_CONNECT_RATE=0", "BRIDGE_MAX_SESSIONS=" + limit, "BRIDGE_MAX_UNAUTHENTICATED_PER_ADDRESS=" + limit}
	if o.Redis {
		address, err := t.startRedis(ctx)
		if err != nil {
			return t, err
		}
		env = append(env, "BRIDGE_REDIS_URL=redis://"+address)
	}
	cmd := exec.Command(program, "serve")
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "BRIDGE_") && !strings.HasPrefix(kv, "FLY_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	c, err := t.start("hookbridge", cmd)
	if err != nil {
		return t, err
	}
	err = c.await(ctx, func() bool {
		if address := c.listening(); address != "" {
			t.url = &url.URL{Scheme: "http", Host: address}
			return true
		}
		return false
	})
	return t, err
}

// startRedis starts a Redis that syncs its append-only file each second, which is its default and what
// most run it with.
func (t *target) startRedis(ctx context.Context) (address string, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", fmt.Errorf("--redis starts redis-server, which is not installed (Debian: sudo apt-get install redis-server): %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address = ln.Addr().String()
	if err := ln.Close(); err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	c, err := t.start("redis-server", exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--dir", t.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--daemonize", "no"))
	if err != nil {
		return "", err
	}
	return address, c.await(ctx, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		defer conn.Close()
		reply := make([]byte, 5)
		_, err = conn.Write([]byte("PING\r\n"))
		n, readErr := conn.Read(reply)
		return err == nil && readErr == nil && string(reply[:n]) == "+PONG"
	})
}

// child is a process that loadtest has started. What it says goes into a file: a pipe would cost the load
// CPU.
type child struct {
	name  string
	cmd   *exec.Cmd
	log   string        // path of what it says
	ended chan struct{} // closed when it has
}

func (t *target) start(name string, cmd *exec.Cmd) (*child, error) {
	c := &child{name: name, cmd: cmd, log: filepath.Join(t.dir, name+".log"), ended: make(chan struct{})}
	f, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s cannot be started: %w", name, err)
	}
	t.started = append(t.started, c)
	t.processes = append(t.processes, cmd.Process.Pid)
	go func() {
		_ = cmd.Wait() // that it has ended is what counts; why is in its log
		close(c.ended)
	}()
	return c, nil
}

// await waits until the child is ready.
func (c *child) await(ctx context.Context, ready func() bool) error {
	late := time.NewTimer(startPatience)
	defer late.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-c.ended:
			return fmt.Errorf("%s has ended instead of starting:\n%s", c.name, c.lastWords())
		case <-late.C:
			return fmt.Errorf("%s is not ready after %s:\n%s", c.name, startPatience, c.lastWords())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// listening is the address that the program has said it listens on.
func (c *child) listening() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(b) {
		var said struct{ Msg, Address string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "listening" {
			return said.Address
		}
	}
	return ""
}

// lastWords are the last lines that the child has said.
func (c *child) lastWords() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// trouble is an error where a server that loadtest has started has ended by itself.
func (t *target) trouble() error {
	for _, c := range t.started {
		select {
		case <-c.ended:
			return fmt.Errorf("%s has ended meanwhile:\n%s", c.name, c.lastWords())
		default:
		}
	}
	return nil
}

// stop ends what was started, in reverse order, and removes its files.
func (t *target) stop() error {
	for i := len(t.started) - 1; i >= 0; i-- {
		c := t.started[i]
		// Where the system knows no such signal, or the child does not end in time, it is killed.
		if c.cmd.Process.Signal(os.Interrupt) == nil {
			select {
			case <-c.ended:
			case <-time.After(stopPatience):
			}
		}
		_ = c.cmd.Process.Kill() // it has ended where all went well
		<-c.ended
	}
	if t.dir == "" {
		return nil
	}
	return os.RemoveAll(t.dir)
}

// probe says what is wrong where the server cannot be reached.
func (t *target) probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.JoinPath("/readyz").String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the server cannot be reached; is the address right, and does it run? %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server is not ready: GET /readyz answers HTTP %d", resp.StatusCode)
	}
	return nil
}

// onLoopback reports whether the server runs on this machine, and connections to it may come from any
// loopback address. Only 127.0.0.1 is one on some systems.
func (t *target) onLoopback() bool {
	ip := net.ParseIP(t.url.Hostname())
	if t.url.Hostname() == "localhost" {
		ip = net.IPv4(127, 0, 0, 1)
	}
	if ip.To4() == nil || !ip.IsLoopback() {
		return false
	}
	ln, err := net.Listen("tcp", "127.0.1.2:0")
	return err == nil && ln.Close() == nil
}
