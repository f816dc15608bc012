package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/storetest"
)

// clinic hears of everything.
var clinic = bridge.Backends{{Name: "clinic", Types: []string{"*"}}}

// sentBy is the n-th message of a user to the backend.
func sentBy(user string, n int) bridge.Callback {
	return bridge.SentCallback("clinic", user, "ses_1", fmt.Sprint("msg_", n), "t", nil, time.Now())
}

// leasedOf leases what is due, which must be so many.
func leasedOf(t *testing.T, e *redis.Store, want int) []bridge.Leased {
	t.Helper()
	due, _, err := e.Lease(deadline(t, 10*time.Second), "clinic", 100)
	expect.NoError(t, err)
	if len(due) != want {
		t.Errorf("%d callbacks are due, want %d", len(due), want)
	}
	return due
}

func backlogOf(t *testing.T, e *redis.Store) bridge.Backlog {
	t.Helper()
	b, err := e.Backlog(deadline(t, 10*time.Second), "clinic")
	expect.NoError(t, err)
	return b
}

func dueTimers(t *testing.T, e *redis.Store) []bridge.Timer {
	t.Helper()
	ts, err := e.LeaseTimers(deadline(t, 10*time.Second), 100)
	expect.NoError(t, err)
	return ts
}

func TestOutboxClocks(t *testing.T) {
	t.Run("what is due by a machine's clock is due then, whatever the clock of Redis says", clocksDiffer)
	t.Run("an escalation is not early where the clock of Redis has gone ahead", clockGoesAhead)
}

// urgent is a message that escalates.
func urgent(id, user string, now time.Time, after time.Duration) *bridge.Message {
	m := message(id, user)
	m.At, m.Escalate, m.Expires = now, after, now.Add(5*time.Minute).Truncate(time.Millisecond)
	m.Encode()
	return m
}

func clocksDiffer(t *testing.T) {
	for _, by := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			e, _ := quick(t, redis.Skewed(redis.Options{URL: s.URL(), Backends: clinic}, func() time.Duration { return by }))
			now := time.Now().Add(by)
			appendTo(t, e, urgent("later", "u", now, 5*time.Minute))
			appendTo(t, e, urgent("soon", "v", now, time.Second))
			expect.Eventually(t, "the one that is due", func() bool {
				ts := dueTimers(t, e)
				if len(ts) > 0 && (len(ts) != 1 || ts[0].EventID != "soon") {
					t.Fatalf("%+v", ts)
				}
				return len(ts) == 1
			})
			expect.NoError(t, e.Ack(deadline(t, 10*time.Second), "u", "ses_1", e.Life(), bridge.Position{Mailbox: 1}))
			acked := leasedOf(t, e, 1)[0]
			if acked.Type != bridge.CallbackAcked {
				t.Errorf("%s", acked.Body)
			}
			expect.NoError(t, e.Settle(deadline(t, 10*time.Second), bridge.Settlement{Leased: acked, Again: now.Add(6 * time.Minute)}))
			_, next, err := e.Lease(deadline(t, 10*time.Second), "clinic", 1)
			expect.NoError(t, err)
			if d := next.Sub(now); d < 0 || d > 7*time.Minute {
				t.Errorf("the next one may be due in %v", d)
			}
			expect.NoError(t, e.Post(deadline(t, 10*time.Second), sentBy("v", 1)))
			sent := leasedOf(t, e, 1)[0]
			expect.NoError(t, e.Settle(deadline(t, 10*time.Second), bridge.Settlement{Leased: sent, Again: now}))
			leasedOf(t, e, 1)
		})
	}
}

// To the store it is the same whether Redis' clock goes ahead or its own goes back.
func clockGoesAhead(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var by atomic.Int64
	e, _ := quick(t, redis.Skewed(redis.Options{URL: s.URL(), Backends: clinic}, func() time.Duration { return time.Duration(by.Load()) }))
	appendTo(t, e, urgent("m", "u", time.Now(), 50*time.Millisecond))
	by.Store(int64(-10 * time.Minute))
	timers := strings.Fields(s.Do("KEYS", "*:{u*}:w"))[0]
	expect.Eventually(t, "the timer to wait for longer", func() bool {
		if ts := dueTimers(t, e); len(ts) != 0 {
			t.Fatalf("%+v", ts)
		}
		n, err := strconv.ParseFloat(s.Do("ZSCORE", timers, "u1"), 64)
		return err == nil && time.UnixMilli(int64(n)).After(time.Now().Add(9*time.Minute))
	})
}

func TestOutbox(t *testing.T) {
	t.Run("an entry of an index with nothing behind it goes after a while", entriesWithoutCallbacks)
	t.Run("a machine without backends works beside one that has some", machineWithoutBackends)
	t.Run("a failover that loses acks loses their callbacks, and no others", failoverOfCallbacks)
	t.Run("an index that a Cluster has lost is made anew in the next life", lostIndex)
	t.Run("an emptied Redis knows the backends' names again, without which nobody erases what waits for them", emptiedOfNames)
	t.Run("what waits goes out also from a Redis that is full", drainedWhenFull)
	t.Run("a machine hears of what others have stored", postedByOthers)
}

func entriesWithoutCallbacks(t *testing.T) {
	heavy(t)
	for name, url := range map[string]string{"on one Redis": redistest.Start(t).URL(), "on a Cluster": redistest.StartCluster(t).URL()} {
		t.Run(name, func(t *testing.T) {
			c := storetest.NewClock()
			e, _ := quick(t, redis.Options{URL: url, Backends: clinic, Now: c.Now})
			lost := sentBy("u", 1)
			lost.At = c.Now()
			expect.NoError(t, redis.Admit(t.Context(), e, lost))
			leasedOf(t, e, 0)
			if b := backlogOf(t, e); b.Waiting != 1 || !b.Oldest.IsZero() {
				t.Errorf("at first: %+v", b)
			}
			// The machine was only slow.
			expect.NoError(t, e.Post(t.Context(), lost))
			for _, l := range leasedOf(t, e, 1) {
				expect.NoError(t, e.Settle(t.Context(), bridge.Settlement{Leased: l, Done: true}))
			}
			// And now it died.
			expect.NoError(t, redis.Admit(t.Context(), e, lost))
			for range 4 {
				leasedOf(t, e, 0)
				c.Advance(61 * time.Second)
			}
			if b := backlogOf(t, e); b != (bridge.Backlog{}) {
				t.Errorf("at last: %+v", b)
			}
			if n := redis.Existing(t.Context(), e, redis.CallbackKeys(e, "clinic")); n != 0 {
				t.Errorf("%d indexes have something", n)
			}
		})
	}
}

func machineWithoutBackends(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := storetest.NewClock()
	e, _ := quick(t, redis.Options{URL: s.URL(), Backends: clinic, Now: c.Now})
	plain, h := quick(t, redis.Options{URL: s.URL(), Now: c.Now})
	urgent := func(id, user string) *bridge.Message {
		m := message(id, user)
		m.Escalate = time.Minute
		m.Expires = c.Now().Add(time.Hour)
		return m
	}
	join(t, plain, "u", "ses_1")
	for _, m := range []*bridge.Message{urgent("acked", "u"), urgent("recalled", "v"), urgent("erased", "w"), urgent("late", "x")} {
		appendTo(t, e, m)
	}
	appendTo(t, plain, urgent("not timed", "x"))
	expect.Eventually(t, "the message to be heard", func() bool { return h.last() == "acked" })
	expect.NoError(t, e.Post(t.Context(), sentBy("w", 1)))
	expect.NoError(t, plain.Ack(t.Context(), "u", "ses_1", plain.Life(), bridge.Position{Mailbox: 1}))
	expect.NoError(t, plain.Recall(t.Context(), "recalled"))
	expect.NoError(t, plain.Erase(t.Context(), "w"))
	c.Advance(2 * time.Minute)
	if ts := dueTimers(t, e); len(ts) != 1 || ts[0].EventID != "late" {
		t.Errorf("due: %+v", ts)
	}
	if b := backlogOf(t, e); b != (bridge.Backlog{}) {
		t.Errorf("an erased user has %+v", b)
	}
}

func failoverOfCallbacks(t *testing.T) {
	heavy(t)
	p := redistest.StartPair(t)
	e, _ := quick(t, redis.Options{URL: p.URL(), Backends: clinic, Patience: 5 * time.Second})
	for i := range 8 {
		appendTo(t, e, message(fmt.Sprint("m", i), "u"))
	}
	ack := func(n uint64) {
		expect.NoError(t, e.Ack(deadline(t, 5*time.Second), "u", "ses_1", e.Life(), bridge.Position{Mailbox: n}))
	}
	ack(2)
	p.Settle()
	life := e.Life()
	p.CutOff()
	ack(5) // is lost
	p.Promote()
	expect.Eventually(t, "a new life", func() bool { return e.Life() != life })
	if st := join(t, e, "u", "ses_1"); st.Acked.Mailbox != 2 {
		t.Errorf("acked: %+v", st.Acked)
	}
	if b := backlogOf(t, e); b.Waiting != 2 {
		t.Errorf("backlog: %+v", b)
	}
	ack(5)
	for _, l := range leasedOf(t, e, 5) {
		expect.NoError(t, e.Settle(deadline(t, 5*time.Second), bridge.Settlement{Leased: l, Done: true}))
	}
	if b := backlogOf(t, e); b != (bridge.Backlog{}) {
		t.Errorf("backlog at last: %+v", b)
	}
}

func lostIndex(t *testing.T) {
	heavy(t)
	cl := redistest.StartReplicatedCluster(t, 0)
	c := storetest.NewClock()
	e, _ := quick(t, redis.Options{URL: cl.URL(), Backends: clinic, Now: c.Now, Patience: 20 * time.Second})
	for i := range 5 {
		user := fmt.Sprint("u", i)
		m := message(user, user)
		m.Escalate, m.Expires = time.Minute, c.Now().Add(time.Hour)
		appendTo(t, e, m)
		expect.NoError(t, e.Post(t.Context(), sentBy(user, i)))
	}
	expect.NoError(t, redis.LoseIndexes(t.Context(), e, "clinic"))
	c.Advance(time.Minute)
	leasedOf(t, e, 0)
	life := e.Life()
	cl.FailOver(0)
	expect.Eventually(t, "a new life", func() bool { return e.Life() != life })
	callbacks, timers := 0, 0
	expect.Eventually(t, "all to be due", func() bool {
		due, _, err := e.Lease(t.Context(), "clinic", 100)
		expect.NoError(t, err)
		ts, err := e.LeaseTimers(t.Context(), 100)
		expect.NoError(t, err)
		callbacks, timers = callbacks+len(due), timers+len(ts)
		return callbacks == 5 && timers == 5
	})
}

func emptiedOfNames(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL(), Backends: clinic})
	plain, _ := quick(t, redis.Options{URL: s.URL()})
	s.Do("FLUSHALL")
	expect.NoError(t, e.Post(deadline(t, 10*time.Second), sentBy("u", 1)))
	expect.Eventually(t, "the name to be known", func() bool {
		names, err := plain.Names(deadline(t, 10*time.Second))
		return err == nil && slices.Equal(names, []string{"clinic"})
	})
	expect.NoError(t, plain.Erase(deadline(t, 10*time.Second), "u"))
	leasedOf(t, e, 0)
}

// Nothing new is taken; but what is taken away makes room.
func drainedWhenFull(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL(), Backends: clinic})
	for i := range 3 {
		expect.NoError(t, e.Post(deadline(t, 10*time.Second), sentBy(fmt.Sprint("u", i), i)))
	}
	for _, l := range leasedOf(t, e, 3)[:1] {
		expect.NoError(t, e.Settle(deadline(t, 10*time.Second), bridge.Settlement{Leased: l, Again: time.Now().Add(-time.Minute), Hurry: true}))
	}
	expect.NoError(t, e.Post(deadline(t, 10*time.Second), sentBy("v", 4)))
	s.Do("CONFIG", "SET", "maxmemory", "1mb")
	if err := e.Post(deadline(t, 10*time.Second), sentBy("u", 9)); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("a new one: %v", err)
	}
	due := leasedOf(t, e, 2)
	expect.NoError(t, e.Settle(deadline(t, 10*time.Second), bridge.Settlement{Leased: due[0]}, bridge.Settlement{Leased: due[1], Done: true}))
	expect.NoError(t, e.Hurry(deadline(t, 10*time.Second), "clinic"))
	if b := backlogOf(t, e); b.Waiting != 2 || b.Dead != 1 {
		t.Errorf("%+v", b)
	}
}

func postedByOthers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	here, _ := quick(t, redis.Options{URL: s.URL(), Backends: clinic})
	there, _ := quick(t, redis.Options{URL: s.URL(), Backends: clinic})
	expect.NoError(t, there.Post(t.Context(), sentBy("u", 1)))
	select {
	case <-here.Posted():
	case <-deadline(t, 10*time.Second).Done():
		t.Fatal("nothing was told")
	}
	leasedOf(t, here, 1)
	leasedOf(t, there, 0)
}
