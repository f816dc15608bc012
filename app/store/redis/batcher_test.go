package redis_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestBatch(t *testing.T) {
	t.Parallel()
	t.Run("stores a message whose sender gave up", senderGaveUp)
	t.Run("with one bad mailbox does not fail others", oneBadMailbox)
}

// What this machine publishes comes back to it without the message. Whoever gave
// up waiting has it no longer at hand: the session is told to look in the store.
func senderGaveUp(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	e, h := quick(t, redis.Options{URL: proxy.URL()})
	join(t, e, "u", "ses_1")
	appendTo(t, e, message("first", "u"))
	s.Pause() // it has the request, and answers late
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Append(ctx, message("second", "u")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	s.Continue()
	expect.Eventually(t, "to be told how far it goes", func() bool { return h.toldBehind("u", bridge.Position{Mailbox: 2}) })
	appendTo(t, e, message("third", "u"))
	if got := stored(t, e, "u"); fmt.Sprint(got) != "[first second third]" {
		t.Errorf("%v", got)
	}
}

// Messages that go together are each on their own: one that fails, or is known,
// does nothing to the others.
func oneBadMailbox(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	for _, user := range []string{"good", "bad"} {
		join(t, e, user, "ses_"+user)
	}
	appendTo(t, e, message("known", "good"))
	appendTo(t, e, message("there", "bad"))
	s.Do("SET", redis.MessagesKey(e, "bad"), "something else")
	var ms []*bridge.Message
	for i := range 100 {
		ms = append(ms, message(fmt.Sprint("g", i), "good"), message(fmt.Sprint("b", i), "bad"))
	}
	ms = append(ms, message("known", "good"))
	var lock sync.Mutex
	outcome := map[string]error{}
	var all sync.WaitGroup
	for _, m := range ms {
		all.Go(func() {
			r, err := e.Append(deadline(t, 10*time.Second), m)
			lock.Lock()
			defer lock.Unlock()
			outcome[m.ID] = err
			if err == nil && r.Duplicate != (m.ID == "known") {
				t.Errorf("%s: %+v", m.ID, r)
			}
		})
	}
	all.Wait()
	for id, err := range outcome {
		if bad := id[0] == 'b'; bad != errors.Is(err, bridge.ErrUnavailable) || !bad && err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if r, err := e.Append(deadline(t, 10*time.Second), message("b0", "bad")); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("what was not stored is known: %+v, %v", r, err)
	}
	if got := stored(t, e, "good"); len(got) != 101 {
		t.Errorf("%d are stored", len(got))
	}
	expect.Eventually(t, "all to be heard", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := 0
		for _, id := range h.heard {
			if id[0] == 'g' {
				n++
			}
		}
		return n == 100
	})
}
