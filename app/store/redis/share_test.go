package redis_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// large makes a message to several whose payload has so many bytes.
func large(id string, size int, users ...string) *bridge.Message {
	m := message(id, "")
	m.To = bridge.Target{Users: users}
	m.Event = fmt.Appendf(nil, `{"id":%q,"data":%q}`, id, strings.Repeat("x", size))
	m.Digest = sha256.Sum256(m.Event)
	m.Encode()
	return m
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("user-", i)
	}
	return out
}

// used is Redis' memory, bytes.
func used(t *testing.T, s *redistest.Server) int {
	t.Helper()
	for line := range strings.Lines(s.Do("INFO", "memory")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.Atoi(v)
			expect.NoError(t, err)
			return n
		}
	}
	t.Fatal("no used_memory")
	return 0
}

// calls is how often Redis has run a command.
func calls(t *testing.T, s *redistest.Server, command string) int {
	t.Helper()
	for line := range strings.Lines(s.Do("INFO", "commandstats")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_"+command+":calls="); ok {
			text, _, _ := strings.Cut(v, ",")
			n, err := strconv.Atoi(text)
			expect.NoError(t, err)
			return n
		}
	}
	return 0
}

// kept is how many shared messages there are.
func kept(s *redistest.Server) int {
	return len(strings.Fields(s.Do("KEYS", "*}:b")))
}

func TestSharedMessage(t *testing.T) {
	t.Parallel()
	t.Run("is kept once", sharedIsKeptOnce)
	t.Run("goes with its last holder", sharedGoesWithLastHolder)
	t.Run("that is gone reads as expired", sharedReadsAsExpired)
	t.Run("that broke off is completed", sharedIsCompleted)
}

func sharedIsKeptOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	users := names(1000)
	appendTo(t, e, large("small", 300, users...)) // what a mailbox takes itself, some 4 KB
	before := used(t, s)
	m := large("big", 57_000, users...)
	appendTo(t, e, m)
	if grown := used(t, s) - before; grown > 1<<20 {
		t.Errorf("57 KB to 1,000 users take %d bytes", grown)
	}
	for _, u := range []string{users[0], users[500], users[999]} {
		p, err := e.Read(t.Context(), u, e.Life(), bridge.Position{Mailbox: 1}, 10, 1<<20)
		expect.NoError(t, err)
		if len(p.Deliveries) != 1 || string(p.Deliveries[0].Message.Event) != string(m.Event) || p.Lost() != (bridge.Lost{}) {
			t.Errorf("%s reads %d messages and misses %+v", u, len(p.Deliveries), p.Lost())
		}
	}
	again := appendTo(t, e, m)
	if !again.Duplicate || len(again.Recipients) != 1000 || again.Recipients[999].Seq != 2 {
		t.Errorf("%v", again.Duplicate)
	}
	if n := kept(s); n != 2 {
		t.Errorf("%d messages are kept", n)
	}
}

// A payload goes with the last mailbox that held it, whatever took it out there.
func sharedGoesWithLastHolder(t *testing.T) {
	t.Parallel()
	both := []string{"u", "v"}
	for name, c := range map[string]struct {
		options redis.Options
		topic   string
		last    func(t *testing.T, e *redis.Store, u string)
	}{
		"erased": {last: func(t *testing.T, e *redis.Store, u string) { expect.NoError(t, e.Erase(t.Context(), u)) }},
		"full":   {options: redis.Options{MailboxLimit: 1}, last: func(t *testing.T, e *redis.Store, u string) { appendTo(t, e, message("small-"+u, u)) }},
		"too large": {options: redis.Options{MailboxBytes: 60_000}, last: func(t *testing.T, e *redis.Store, u string) {
			m := large("large-"+u, 30_000, u)
			m.To = bridge.Target{User: u}
			appendTo(t, e, m)
		}},
		"replaced": {topic: "t", last: func(t *testing.T, e *redis.Store, u string) {
			m := message("newer-"+u, u)
			m.Topic = "t"
			appendTo(t, e, m)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			c.options.URL = s.URL()
			e, _ := quick(t, c.options)
			m := large("shared", 40_000, both...)
			m.Topic = c.topic
			appendTo(t, e, m)
			c.last(t, e, "u")
			if n := kept(s); n != 1 {
				t.Errorf("%d messages are kept while one mailbox has it", n)
			}
			if got := stored(t, e, "v"); fmt.Sprint(got) != "[shared]" {
				t.Errorf("the other mailbox has %v", got)
			}
			c.last(t, e, "v")
			if n := kept(s); n != 0 {
				t.Errorf("%d messages are kept when no mailbox has it", n)
			}
		})
	}
	t.Run("recalled", func(t *testing.T) {
		s := redistest.Start(t)
		e, _ := quick(t, redis.Options{URL: s.URL()})
		appendTo(t, e, large("shared", 40_000, both...))
		expect.NoError(t, e.Recall(t.Context(), "shared"))
		if n := kept(s); n != 0 {
			t.Errorf("%d messages are kept", n)
		}
	})
}

// A shared message that is not there any more reads as one that expired.
func sharedReadsAsExpired(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	appendTo(t, e, message("first", "u"))
	appendTo(t, e, large("shared", 1000, "u", "v"))
	appendTo(t, e, message("last", "u"))
	for _, k := range strings.Fields(s.Do("KEYS", "*}:b")) {
		s.Do("DEL", k)
	}
	p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 10, 1<<20)
	expect.NoError(t, err)
	if len(p.Deliveries) != 2 || p.Lost().Expired.Mailbox != 2 || p.Next().Mailbox != 3 || p.More {
		t.Errorf("%d messages, lost %+v, next %+v", len(p.Deliveries), p.Lost(), p.Next())
	}
}

// Who sends again what broke off completes it for those who have not got it.
func sharedIsCompleted(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	s.Do("SET", redis.MessagesKey(e, "v"), "something else")
	m := large("shared", 40_000, "u", "v", "w")
	if _, err := e.Append(t.Context(), m); !errors.Is(err, bridge.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	s.Do("DEL", redis.MessagesKey(e, "v"))
	if r := appendTo(t, e, m); !r.Duplicate || r.Recipients[1].Seq != 1 {
		t.Errorf("%+v", r)
	}
	for _, u := range []string{"u", "v", "w"} {
		if got := stored(t, e, u); fmt.Sprint(got) != "[shared]" {
			t.Errorf("%s has %v", u, got)
		}
	}
	for _, u := range []string{"u", "v", "w"} {
		expect.NoError(t, e.Erase(t.Context(), u))
	}
	if n := kept(s); n != 0 {
		t.Errorf("%d messages are kept", n)
	}
}
