package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
)

func TestCallbackBacklog(t *testing.T) {
	t.Parallel()
	t.Run("drains at the pace of a backend that comes back, on SQLite", func(t *testing.T) {
		t.Parallel()
		backlogDrains(t)
	})
	t.Run("drains at the pace of a backend that comes back, on Redis", func(t *testing.T) {
		t.Parallel()
		backlogDrains(t, "BRIDGE_REDIS_URL="+redistest.Start(t).URL(), "BRIDGE_REDIS_PREFIX=e2e")
	})
}

const (
	// mostTriesAtOnce is how many callbacks the bridge has under way to one backend.
	mostTriesAtOnce = 16
	// drainWorkers is how many callbacks the test's backend works on at a time, and drainWork
	// how long on each.
	drainWorkers = 4
	drainWork    = 4 * time.Millisecond
)

// slowBackend is a backend that can be down, and takes a few callbacks at a time when it is
// up.
type slowBackend struct {
	signer  *standardwebhooks.Webhook
	workers chan struct{}

	mu        sync.Mutex // guards what follows
	up        bool
	now, most int            // callbacks that are with it, and at most
	refused   int            // that it has answered with 503
	ids       map[string]int // how often each came while it was up
	last      map[string]int // the last number of each user
	faults    []string
}

func (b *slowBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the bridge hung up
	}
	var c struct {
		Data struct {
			From  string
			Event struct{ Data int }
		}
	}
	err = b.signer.Verify(body, r.Header)
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	b.mu.Lock()
	if b.now++; b.now > b.most {
		b.most = b.now
	}
	up := b.up
	if err != nil {
		b.faults = append(b.faults, err.Error())
	}
	if !up {
		b.refused++
	}
	b.mu.Unlock()
	if up {
		b.workers <- struct{}{}
		time.Sleep(drainWork) // its work
		<-b.workers
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now--
	if !up {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.ids[r.Header.Get("webhook-id")]++
	if n := c.Data.Event.Data; n != b.last[c.Data.From]+1 {
		b.faults = append(b.faults, fmt.Sprintf("of %s number %d came after %d", c.Data.From, n, b.last[c.Data.From]))
	}
	b.last[c.Data.From] = c.Data.Event.Data
	w.WriteHeader(http.StatusNoContent)
}

// set changes the backend, or looks at it.
func (b *slowBackend) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *slowBackend) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ids)
}

// backlogDrains sends 300 callbacks; 10,000 where HOOKBRIDGE_BACKLOG is set.
func backlogDrains(t *testing.T, env ...string) {
	users, each := 20, 15
	if os.Getenv("HOOKBRIDGE_BACKLOG") != "" { // minutes of two processors with the race detector
		users, each = 100, 100
	}
	all := users * each
	signer, err := standardwebhooks.NewWebhook(callbackSecret)
	expect.NoError(t, err)
	b := &slowBackend{signer: signer, workers: make(chan struct{}, drainWorkers), ids: make(map[string]int), last: make(map[string]int)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	expect.NoError(t, err)
	address := ln.Addr().String()
	up := hangUp(ln) // a port that was given up might be somebody else's by now
	p := serve(t, t.TempDir(), append(env, "BRIDGE_CALLBACK_URL=http://"+address+"/hook", "BRIDGE_CALLBACK_SECRET="+callbackSecret, "BRIDGE_USER_RATE=0", "BRIDGE_USER_BYTES=0")...)

	var sending sync.WaitGroup
	turn := make(chan int, users)
	for i := range users {
		turn <- i
	}
	close(turn)
	for range 16 {
		sending.Go(func() {
			for i := range turn {
				user := fmt.Sprintf("patient-%d", i)
				tok := backendUser(t, user)
				for n := range each {
					a := p.callAs(tok, http.MethodPost, "/v1/sends", fmt.Sprintf(`{"ref":"r%d","to":{"backend":true},"event":{"type":"visit.n","data":%d}}`, n, n+1))
					if a.HTTP != http.StatusAccepted {
						t.Errorf("%s %d: %d %s", user, n, a.HTTP, a.Raw)
						return
					}
				}
			}
		})
	}
	sending.Wait()
	unreachable := `hookbridge_callbacks_tries_total{backend="default",result="unreachable"}`
	expect.Eventually(t, "the first tries", func() bool { return p.metric(unreachable) > 0 })

	expect.NoError(t, up())
	server := httptest.NewUnstartedServer(b)
	expect.NoError(t, server.Listener.Close())
	server.Listener = ln
	server.Start()
	defer server.Close()
	expect.Eventually(t, "two probes", func() bool {
		refused := 0
		b.set(func() { refused = b.refused })
		return refused >= 2
	})
	// Those that were under way when it went down, and probes whose pauses grow.
	if n := p.metric(unreachable); n > 2*mostTriesAtOnce {
		t.Errorf("%v tries met a backend that was not there", n)
	}
	most := 0
	b.set(func() { most, b.most, b.up = b.most, 0, true })
	if most != 1 {
		t.Errorf("%d callbacks at once probed it", most)
	}

	expect.Eventually(t, "the next probe", func() bool { return b.taken() > 0 })
	began, cpu := time.Now(), processorTime(t, p)
	for part := range 20 { // the patience is for each
		expect.Eventually(t, fmt.Sprintf("part %d of %d callbacks", part+1, all), func() bool { return b.taken() >= all*(part+1)/20 })
	}
	took := time.Since(began)
	cpu = processorTime(t, p) - cpu
	t.Logf("%d callbacks in %s: %.0f a second, %s of the bridge's processor time each", all, took.Round(time.Millisecond),
		float64(all)/took.Seconds(), cpu/time.Duration(all))

	expect.Eventually(t, "nothing to wait", func() bool {
		return strings.Contains(p.callAs(token(t, "operator", time.Hour, `{"admin":["callbacks"]}`), http.MethodGet, "/v1/callbacks", "").Raw, `"waiting":0,"dead":0`)
	})
	b.set(func() {
		for id, n := range b.ids {
			if n != 1 {
				t.Errorf("%s came %d times", id, n)
			}
		}
		if len(b.ids) != all || len(b.last) != users || len(b.faults) > 0 || b.most > mostTriesAtOnce {
			t.Errorf("%d callbacks of %d users, %d at once; %q", len(b.ids), len(b.last), b.most, b.faults)
		}
	})
}

// hangUp closes each connection that a listener takes, until it is told to end. Then the
// listener is free for another use.
func hangUp(ln net.Listener) (end func() error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return func() error {
		l := ln.(*net.TCPListener)
		err := l.SetDeadline(time.Now()) // ends Accept
		<-ended
		return errors.Join(err, l.SetDeadline(time.Time{}))
	}
}

// processorTime is what a process has used; 0 where the system does not tell.
func processorTime(t *testing.T, p *process) time.Duration {
	if runtime.GOOS != "linux" {
		return 0
	}
	return p.cpu(t)
}
