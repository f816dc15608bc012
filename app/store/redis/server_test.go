package redis_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestServer(t *testing.T) {
	t.Parallel()
	t.Run("that restarts loses nothing that was answered", serverRestarts)
	t.Run("that forgets scripts is sent them again", serverForgetsScripts)
	t.Run("that is full is unavailable and loses nothing", serverIsFull)
	t.Run("whose settings break promises is warned of", serverSettingsAreWarnedOf)
	t.Run("holds one store for machines that start together", machinesStartTogether)
	t.Run("with a newer format is refused", newerFormatIsRefused)
	t.Run("with members that a newer version adds is read", newerMembersAreIgnored)
}

func serverRestarts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	f := send(t, e, "u")
	for range 3 {
		before := f.counts()
		expect.Eventually(t, "some messages", func() bool { return f.counts()["u"] > before["u"]+100 })
		s.Kill()
		if err := e.Check(deadline(t, 5*time.Second)); !errors.Is(err, bridge.ErrUnavailable) {
			t.Errorf("check: %v", err)
		}
		s.Restart()
		expect.Eventually(t, "it to be well", func() bool { return e.Check(deadline(t, 5*time.Second)) == nil })
	}
	f.stop()
	if online(t, e, "u") != 1 {
		t.Error("the session is not present any more")
	}
	head := join(t, e, "u", "ses_1").Head
	expect.Eventually(t, "to be told how far it goes", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.behind["u"].Mailbox > 0 && h.behind["u"].Mailbox <= head.Mailbox
	})
}

func serverForgetsScripts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	for i := range 20 {
		s.Do("SCRIPT", "FLUSH")
		appendTo(t, e, message(fmt.Sprint("m", i), "u"))
		var ms []*bridge.Message
		for j := range 20 {
			ms = append(ms, message(fmt.Sprintf("b%d_%d", i, j), "u"))
		}
		for _, a := range e.AppendMany(deadline(t, 10*time.Second), ms) {
			expect.NoError(t, a.Err)
		}
	}
	got := stored(t, e, "u")
	for i := range 20 {
		if got[21*i] != fmt.Sprint("m", i) || got[21*i+20] != fmt.Sprintf("b%d_19", i) {
			t.Fatalf("out of order: %v", got[21*i:21*i+21])
		}
	}
}

func serverIsFull(t *testing.T) {
	heavy(t)
	s := redistest.Start(t, "--maxmemory", "30mb", "--maxmemory-policy", "noeviction")
	e, _ := quick(t, redis.Options{URL: s.URL(), MailboxBytes: 1 << 30, Patience: 20 * time.Second})
	big := strings.Repeat("x", 60_000)
	var kept []string
	var full *bridge.Message
	for i := 0; full == nil && i < 2000; i++ {
		m := message(fmt.Sprint("m", i), "u")
		m.Event = fmt.Appendf(nil, `{"id":%q,"data":%q}`, m.ID, big)
		m.Encode()
		_, err := e.Append(deadline(t, 10*time.Second), m)
		switch {
		case err == nil:
			kept = append(kept, m.ID)
		case errors.Is(err, bridge.ErrUnavailable):
			full = m
		default:
			t.Fatal(err)
		}
	}
	if full == nil {
		t.Fatal("it never got full")
	}
	// What is too much for a large message may do for a small one: now for none.
	s.Do("CONFIG", "SET", "maxmemory", "20mb")
	if err := e.Check(deadline(t, 5*time.Second)); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("check: %v", err)
	}
	if _, err := e.Append(deadline(t, 10*time.Second), message("small", "u")); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("a small one: %v", err)
	}
	if got := stored(t, e, "u"); len(got) != len(kept) {
		t.Errorf("%d of %d are there", len(got), len(kept))
	}
	s.Do("CONFIG", "SET", "maxmemory", "100mb")
	if r := appendTo(t, e, full); r.Duplicate {
		t.Error("what was refused is known")
	}
	expect.NoError(t, e.Check(deadline(t, 5*time.Second)))
}

func serverSettingsAreWarnedOf(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
	var logs bytes.Buffer
	e, err := redis.Open(t.Context(), redis.Options{URL: s.URL(), Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	expect.NoError(t, err)
	expect.NoError(t, e.Close())
	for _, want := range []string{"noeviction", "appendonly"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("nothing is said of %s: %s", want, logs.String())
		}
	}
}

func machinesStartTogether(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	epochs := make(chan string, 12)
	var all sync.WaitGroup
	for range cap(epochs) {
		all.Go(func() {
			e, err := redis.Open(t.Context(), redis.Options{URL: s.URL()})
			if err != nil {
				t.Error(err)
				return
			}
			epochs <- e.Epoch()
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(epochs)
	first := <-epochs
	for other := range epochs {
		if other != first || first == "" {
			t.Errorf("epochs %q and %q", first, other)
		}
	}
}

func newerFormatIsRefused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("SET", "hookbridge:{machines}:format", "2")
	if _, err := redis.Open(t.Context(), redis.Options{URL: s.URL()}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("%v", err)
	}
}

func newerMembersAreIgnored(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	appendTo(t, e, message("m", "u"))
	// What a newer machine would add: a member with a tag that nobody knows yet.
	key := strings.Fields(s.Do("KEYS", "hookbridge:{u*}:m"))[0]
	s.Do("EVAL", `local e = redis.call('XRANGE', KEYS[1], '-', '+')[1]
		redis.call('DEL', KEYS[1])
		redis.call('XADD', KEYS[1], e[1], 'x', e[2][2], 'd', e[2][4] .. string.char(200, 3) .. 'new')
		return 1`, "1", key)
	if got := stored(t, e, "u"); len(got) != 1 || got[0] != "m" {
		t.Errorf("%v", got)
	}
}
