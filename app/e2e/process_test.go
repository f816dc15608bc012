package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sys/unix"

	"hookbridge/app/expect"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	t.Run("keeps what was answered with 202 through kill -9", processKilled)
	t.Run("drains and exits with 0 on SIGTERM and SIGINT", processSignalled)
	t.Run("on another's folder is refused", processOnTakenFolder)
	t.Run("answers 503 while the disk is full, and sessions stay", processFullDisk)
}

func TestListener(t *testing.T) {
	t.Run("is closed when the program is stopped right after its start", listenerCloses)
}

// process is the program in a process of its own.
type process struct {
	*world
	cmd    *exec.Cmd
	out    *expect.Output
	errs   *expect.Output
	exited chan error    // how it ended, once
	ended  chan struct{} // closed when it has
}

// programCommand is the program with only these variables set beside the system's own.
func programCommand(env []string, args ...string) *exec.Cmd {
	return asProgramWith(exec.Command(os.Args[0], args...), env)
}

// asProgramWith has a command that runs this binary be the program.
func asProgramWith(cmd *exec.Cmd, env []string) *exec.Cmd {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "BRIDGE_") && !strings.HasPrefix(kv, "FLY_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(append(cmd.Env, asProgram+"=1"), env...)
	return cmd
}

// launch runs the program.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	return launchCommand(t, programCommand(env, args...))
}

func launchCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: &expect.Output{}, errs: &expect.Output{}, exited: make(chan error, 1), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.errs
	expect.NoError(t, cmd.Start())
	go func() {
		defer close(p.ended)
		p.exited <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone already
		<-p.ended
		if p.world != nil {
			p.client.CloseIdleConnections()
		}
	})
	return p
}

// serve launches the serve command and waits until it listens.
func serve(t testing.TB, dir string, env ...string) *process {
	t.Helper()
	return serveIn(t, dir, exec.Command(os.Args[0], "serve"), env...)
}

// serveIn is serve with a command of the test's own.
func serveIn(t testing.TB, dir string, cmd *exec.Cmd, env ...string) *process {
	t.Helper()
	p := launchCommand(t, asProgramWith(cmd, append([]string{
		"BRIDGE_LISTEN=127.0.0.1:0", "BRIDGE_DATA_DIR=" + dir,
		"BRIDGE_WEBHOOK_SECRETS=" + testWebhookSecret, "BRIDGE_JWT_SECRET=" + testJWTSecret,
	}, env...)))
	var address string
	expect.Eventually(t, "the program listens", func() bool {
		select {
		case err := <-p.exited:
			t.Fatalf("it ended: %v\n%s", err, p.errs)
		default:
		}
		address = addressOf(p.errs.String(), "listening")
		return address != ""
	})
	p.world = &world{t: t, sent: new(atomic.Int64), base: "http://" + address, client: &http.Client{Timeout: expect.Patience,
		Transport: &http.Transport{MaxIdleConnsPerHost: 100}}, logs: p.errs, stopped: true}
	var err error
	if p.signer, err = standardwebhooks.NewWebhook(testWebhookSecret); err != nil {
		t.Fatal(err)
	}
	return p
}

// addressOf is the address that a program's log names in its line of this kind, and
// empty where there is no such line yet.
func addressOf(log, msg string) (address string) {
	for text := range strings.Lines(log) {
		var line struct{ Msg, Address string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == msg {
			address = line.Address
		}
	}
	return address
}

func (p *process) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.exited:
		return err
	case <-time.After(expect.Patience):
		t.Fatal("the program does not end")
		return nil
	}
}

// The reply says stored: whatever was answered with 202 is there after the
// process was killed in the middle of its work.
func processKilled(t *testing.T) {
	heavy(t)
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	listener := p.connect("patient-0", "")
	var mu sync.Mutex
	accepted := make(map[string][]int)
	var wg sync.WaitGroup
	for sender := range 16 {
		wg.Go(func() {
			user := fmt.Sprintf("patient-%d", sender%4)
			for i := range 10_000 {
				id := fmt.Sprintf("k%d_%d", sender, i)
				res, err := p.client.Do(p.sign(id, fmt.Sprintf(`{"type":"t","to":{"user":%q},"data":{"n":%d}}`, user, sender*100_000+i), time.Now()))
				if err != nil {
					return // killed
				}
				expect.NoError(t, res.Body.Close())
				if res.StatusCode == http.StatusAccepted {
					mu.Lock()
					accepted[user] = append(accepted[user], sender*100_000+i)
					mu.Unlock()
				}
			}
		})
	}
	for range 200 { // in mid-load
		listener.want("event")
	}
	expect.NoError(t, p.cmd.Process.Kill())
	wg.Wait()
	_ = p.wait(t) // "signal: killed"
	p = serve(t, dir)
	total := 0
	for user, want := range accepted {
		s := p.connect(user, "")
		got := make(map[int]bool)
		last := map[int]int{}
		for range s.hello.Pending {
			n := s.want("event").n()
			if n%100_000 < last[n/100_000] {
				t.Errorf("%s: sender %d out of order", user, n/100_000)
			}
			last[n/100_000] = n % 100_000
			got[n] = true
		}
		for _, n := range want {
			if !got[n] {
				t.Errorf("%s: %d was answered with 202 and is lost", user, n)
			}
		}
		total += len(want)
	}
	if total < 200 {
		t.Fatalf("only %d events were accepted before the kill", total)
	}
	t.Logf("%d events were answered with 202 before the kill; all are there", total)
	expect.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if err := p.wait(t); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, p.errs)
	}
}

func processSignalled(t *testing.T) {
	heavy(t)
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := serve(t, t.TempDir())
		s := p.connect("patient-1", "")
		plain := p.plain(token(t, "patient-2", time.Hour, ""))
		p.sessions(2)
		p.fireTo("patient-1", 1)
		expect.NoError(t, p.cmd.Process.Signal(sig))
		s.want("event") // what was queued comes before the end
		if f := s.want("reconnect"); f.AfterMs == nil || *f.AfterMs < 0 || *f.AfterMs > 5000 || f.Reason != "draining" {
			t.Errorf("%s", f.Raw)
		}
		if code := s.closed(); code != 1012 {
			t.Errorf("%d", code)
		}
		if code := plain.closed(); code != 1012 {
			t.Errorf("plain: %d", code)
		}
		if err := p.wait(t); err != nil {
			t.Errorf("exit after %v: %v\n%s", sig, err, p.errs)
		}
	}
}

func processOnTakenFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve(t, dir)
	second := launch(t, []string{"BRIDGE_LISTEN=127.0.0.1:0", "BRIDGE_DATA_DIR=" + dir,
		"BRIDGE_WEBHOOK_SECRETS=" + testWebhookSecret, "BRIDGE_JWT_SECRET=" + testJWTSecret}, "serve")
	if err := second.wait(t); err == nil || !strings.Contains(second.errs.String(), "another") {
		t.Errorf("%v: %s", err, second.errs)
	}
}

// A limit on the size of files stands for a full disk: it fails the same
// writes, and needs no rights to set and to lift. What fits into room that the store
// has already is taken, and is there afterwards.
func processFullDisk(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	s := p.connect("patient-1", "")
	p.fireTo("patient-1", 0)
	cursor := s.want("event").Cursor
	limit := func(n uint64) {
		expect.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: unix.RLIM_INFINITY}, nil))
	}
	limit(4096)
	send := func(n int) answer {
		return p.do(p.sign(fmt.Sprintf("full_%d", n), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, n), time.Now()))
	}
	n := 1
	a := send(n)
	for ; a.HTTP == 202 && n < 100; a = send(n) {
		if f := s.want("event"); f.n() != n {
			t.Errorf("%d: %s", n, f.Raw)
		}
		n++
	}
	if a.HTTP != 503 || a.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Fatalf("%d %s", a.HTTP, a.Raw)
	}
	ready := func() int {
		req, err := http.NewRequest(http.MethodGet, p.base+"/readyz", nil)
		expect.NoError(t, err)
		return p.do(req).HTTP
	}
	expect.Eventually(t, "/readyz tells the truth", func() bool { return ready() == 503 })
	s.settle() // the session stays
	limit(unix.RLIM_INFINITY)
	expect.Eventually(t, "it recovers by itself", func() bool { return send(n).HTTP == 202 })
	if f := s.want("event"); f.n() != n {
		t.Errorf("%s", f.Raw)
	}
	expect.Eventually(t, "/readyz recovers", func() bool { return ready() == 200 })
	again := p.connect("patient-1", cursor)
	for i := 1; i <= n; i++ {
		if f := again.want("event"); f.n() != i {
			t.Errorf("%d: %s", i, f.Raw)
		}
	}
}

func listenerCloses(t *testing.T) {
	heavy(t)
	for range 20 {
		w := start(t)
		w.stop()
		if c, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://")); err == nil {
			_ = c.Close()
			t.Fatal("it still listens")
		}
	}
}
