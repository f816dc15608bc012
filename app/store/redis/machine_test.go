package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/guard"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// brittle is a hub that panics while it is told to.
type brittle struct {
	*hub
	broken atomic.Bool
}

func (b *brittle) Deliver(user string, d bridge.Delivery) int {
	if b.broken.Load() {
		panic("x")
	}
	return b.hub.Deliver(user, d)
}

func (b *brittle) Notify(n bridge.Notice) {
	if b.broken.Load() {
		panic("x")
	}
	b.hub.Notify(n)
}

func (b *brittle) DeliveryLogs(string) []bridge.DeliveryLog {
	if b.broken.Load() {
		panic("x")
	}
	return nil
}

func TestMachine(t *testing.T) {
	t.Parallel()
	t.Run("that died has no sessions once its lease has lapsed", deadMachineHasNoSessions)
	t.Run("that died is forgotten soon", deadMachineIsForgotten)
	t.Run("that died has the presence of its users looked at soon", deadMachineHasPresenceSeen)
	t.Run("that could not reach Redis when sessions ended takes them out afterwards", sessionsEndedMeanwhile)
	t.Run("that ends takes out who could not be taken out before", sessionsEndedAtTheEnd)
	t.Run("that comes back from an outage later than another one keeps its sessions", machinesReturn)
	t.Run("that was taken for dead comes back with its sessions", machineComesBack)
	t.Run("finds in the store what it could not hear", deafMachineReadsTheStore)
	t.Run("hears of revocations and erasures that it could not hear", deafMachineHearsOfRevocations)
	t.Run("outlives a Redis that is busy with a script while it connects to the channels", channelsOfBusyServer)
	t.Run("whose hub panics hears on, and costs nobody a message", hubPanics)
}

func deadMachineHasNoSessions(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	dying, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: mortal})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	join(t, dying, "u", "ses_1")
	if n := online(t, other, "u"); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	if r := appendTo(t, other, message("a", "u")); r.Sessions != 1 {
		t.Errorf("%+v", r)
	}
	proxy.Cut() // as good as dead: nothing of it reaches Redis any more
	expect.Eventually(t, "the lease to lapse", func() bool { return presentNow(t, other, "u") == 0 })
	if r := appendTo(t, other, message("b", "u")); r.Sessions != 0 {
		t.Errorf("%+v", r)
	}
	list, err := other.Presence(deadline(t, 10*time.Second), []string{"u"})
	expect.NoError(t, err)
	if list[0].LastSeen.IsZero() || time.Since(list[0].LastSeen) > time.Minute {
		t.Errorf("%+v", list[0])
	}
	if st := join(t, other, "u", "ses_2"); st.Live != 1 {
		t.Errorf("%+v", st)
	}
	proxy.Mend() // it was only away: its sessions are there again
	expect.Eventually(t, "it to come back", func() bool { return presentNow(t, other, "u") == 2 })
}

// Backends hear of users who are gone from a timer of each user, which is minutes away while
// somebody is there.
func deadMachineHasPresenceSeen(t *testing.T) {
	heavy(t)
	for name, start := range map[string]func() (url, dying string, cut func()){
		"on one Redis": func() (string, string, func()) {
			s := redistest.Start(t)
			p := redistest.NewProxy(t, s.Addr)
			return s.URL(), p.URL(), p.Cut
		},
		"on a Cluster": func() (string, string, func()) {
			c := redistest.StartCluster(t)
			return c.URL(), c.URL(), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, mortalURL, cut := start()
			dying, _ := quick(t, redis.Options{URL: mortalURL, Lease: mortal, Backends: clinic})
			other, _ := quick(t, redis.Options{URL: url, Lease: mortal, Backends: clinic})
			join(t, dying, "gone", "ses_1")
			join(t, other, "there", "ses_2")
			for _, user := range []string{"gone", "there"} {
				_, err := other.Arm(t.Context(), user, time.Now().Add(5*time.Minute), true)
				expect.NoError(t, err)
			}
			if cut == nil {
				redis.Kill(dying)
			} else {
				cut()
			}
			var due []bridge.Timer
			expect.Eventually(t, "the timer of who is gone", func() bool {
				due = dueTimers(t, other)
				return len(due) > 0
			})
			if len(due) != 1 || due[0].User != "gone" || due[0].Type != bridge.CallbackOffline || presentNow(t, other, "gone") != 0 {
				t.Errorf("due: %+v", due)
			}
			fired, err := other.Fire(t.Context(), due[0], bridge.OfflineCallback("clinic", due[0], time.Now(), time.Now()))
			if !fired || err != nil {
				t.Errorf("fired %t, %v", fired, err)
			}
		})
	}
}

// The machine does not die, and so nobody else takes them out.
func sessionsEndedMeanwhile(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	e, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: time.Minute, Backends: clinic})
	other, _ := quick(t, redis.Options{URL: s.URL(), Lease: time.Minute, Backends: clinic})
	for _, user := range []string{"gone", "there"} {
		join(t, e, user, "ses_"+user)
		_, err := e.Arm(t.Context(), user, time.Now().Add(5*time.Minute), true)
		expect.NoError(t, err)
	}
	proxy.Cut()
	left := time.Now()
	log := bridge.DeliveryLog{Member: bridge.Member{User: "gone", Session: "ses_gone"}, Ended: left,
		Sent: []bridge.Mark{{Place: bridge.Position{Mailbox: 1}, At: left}}}
	if err := e.Leave(deadline(t, time.Second), log); err == nil {
		t.Fatal("Redis was reached")
	}
	if n := presentNow(t, other, "gone"); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	proxy.Mend()
	expect.Eventually(t, "it to be taken out", func() bool { return presentNow(t, other, "gone") == 0 })
	var due []bridge.Timer
	expect.Eventually(t, "the timer of who is gone", func() bool {
		due = dueTimers(t, other)
		return len(due) > 0
	})
	if len(due) != 1 || due[0].User != "gone" || presentNow(t, other, "there") != 1 {
		t.Errorf("due: %+v", due)
	}
	logs, err := other.DeliveryLogs(t.Context(), []string{"gone"})
	expect.NoError(t, err)
	if len(logs[0]) != 1 || !logs[0][0].Ended.Equal(left) {
		t.Errorf("%+v", logs)
	}
}

func sessionsEndedAtTheEnd(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	e, err := redis.Open(t.Context(), redis.Options{URL: proxy.URL(), Lease: time.Hour, Renew: time.Hour})
	expect.NoError(t, err)
	e.Listen(&hub{})
	other, _ := quick(t, redis.Options{URL: s.URL(), Lease: time.Hour})
	join(t, e, "gone", "ses_gone")
	proxy.Cut()
	if err := e.Leave(deadline(t, time.Second), bridge.DeliveryLog{Member: bridge.Member{User: "gone", Session: "ses_gone"}}); err == nil {
		t.Fatal("Redis was reached")
	}
	proxy.Mend()
	expect.NoError(t, e.Check(deadline(t, 10*time.Second)))
	expect.NoError(t, e.Close())
	if n := presentNow(t, other, "gone"); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// Redis could not be reached for an hour, by nobody: whoever comes back first finds all
// leases lapsed, and must not take the others for dead.
func machinesReturn(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	later, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: time.Minute, Backends: clinic})
	first, _ := quick(t, redis.Options{URL: s.URL(), Lease: time.Minute, Backends: clinic})
	join(t, later, "u", "ses_1")
	_, err := later.Arm(t.Context(), "u", time.Now().Add(5*time.Minute), true)
	expect.NoError(t, err)
	proxy.Cut()
	s.Do("EVAL", `for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], -3600000, m) end return 1`,
		"1", redis.MachinesKey(first))
	there := func(when string) {
		t.Helper()
		for range 2 { // the second one knows what the first one found
			expect.NoError(t, redis.Renew(deadline(t, 10*time.Second), first))
		}
		if n := online(t, first, "u"); n != 1 {
			t.Errorf("%s: %d sessions", when, n)
		}
		if ts := dueTimers(t, first); len(ts) != 0 {
			t.Errorf("%s: due: %+v", when, ts)
		}
		if r := appendTo(t, first, message(when, "u")); r.Sessions != 1 {
			t.Errorf("%s: %+v", when, r)
		}
	}
	there("while it is away")
	proxy.Mend()
	expect.Eventually(t, "it to be back", func() bool { return redis.Renew(deadline(t, 10*time.Second), later) == nil })
	there("when it is back")
}

// What a machine leaves that died is taken out soon, and its name forgotten: no
// append has to know of it any longer.
func deadMachineIsForgotten(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	dying, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: mortal})
	e, _ := quick(t, redis.Options{URL: s.URL(), Lease: mortal})
	for i := range 300 { // more than are taken out in one go
		join(t, dying, fmt.Sprint("user-", i), fmt.Sprint("ses_", i))
	}
	join(t, e, "here", "ses_here")
	proxy.Cut()
	expect.Eventually(t, "the sessions to be gone", func() bool { return len(strings.Fields(s.Do("KEYS", "*:{u*}:l"))) == 1 })
	expect.Eventually(t, "the name to be forgotten", func() bool { return s.Do("ZCARD", redis.MachinesKey(e)) == "1" })
	expect.Eventually(t, "the lists to be its own alone", func() bool { return len(strings.Fields(s.Do("KEYS", "*{machines}:[dl]:*"))) == 1 })
	list, err := e.Presence(t.Context(), []string{"user-7"})
	expect.NoError(t, err)
	if list[0].Sessions != 0 || time.Since(list[0].LastSeen) > time.Minute {
		t.Errorf("%+v", list[0])
	}
}

// One that was only cut off comes back with its sessions.
func machineComesBack(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	cut, h := quick(t, redis.Options{URL: proxy.URL(), Lease: mortal})
	e, _ := quick(t, redis.Options{URL: s.URL(), Lease: mortal})
	join(t, cut, "u", "ses_1")
	proxy.Cut()
	expect.Eventually(t, "it to be forgotten", func() bool { return s.Do("ZCARD", redis.MachinesKey(e)) == "1" })
	proxy.Mend()
	expect.Eventually(t, "it to be back", func() bool { return online(t, e, "u") == 1 && h.restored() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	list, err := e.Sessions(ctx, "u")
	expect.NoError(t, err)
	if len(list) != 1 || list[0].Session != "ses_1" {
		t.Errorf("%+v", list)
	}
}

func deafMachineReadsTheStore(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	deaf, h := quick(t, redis.Options{URL: proxy.URL()})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	join(t, deaf, "u", "ses_1")
	appendTo(t, other, message("heard", "u"))
	expect.Eventually(t, "the first message", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.heard) == 1 })
	for round := range 2 {
		proxy.Cut()
		for i := range 5 {
			appendTo(t, other, message(fmt.Sprintf("m_%d_%d", round, i), "u"))
		}
		appendTo(t, other, message(fmt.Sprintf("all_%d", round), ""))
		proxy.Drop()
		proxy.Mend()
		expect.Eventually(t, "to be told how far it goes", func() bool {
			return h.toldBehind("u", bridge.Position{Mailbox: uint64(6 + 5*round)}) && h.toldBehind("", bridge.Position{Broadcast: uint64(1 + round)})
		})
	}
}

func deafMachineHearsOfRevocations(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	deaf, h := quick(t, redis.Options{URL: proxy.URL()})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	for _, user := range []string{"revoked", "erased", "unharmed"} {
		join(t, deaf, user, "ses_"+user)
	}
	proxy.Cut()
	expect.NoError(t, other.Revoke(deadline(t, 5*time.Second), "revoked", bridge.Revocation{TokenID: "stolen"}))
	expect.NoError(t, other.Erase(deadline(t, 5*time.Second), "erased"))
	proxy.Drop()
	proxy.Mend()
	expect.Eventually(t, "the notices", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.told["revoked revoked"] && h.told["erased erased"]
	})
	expect.Eventually(t, "the others to see who is left", func() bool {
		return presentNow(t, other, "revoked") == 1 && presentNow(t, other, "erased") == 0 && presentNow(t, other, "unharmed") == 1
	})
}

func channelsOfBusyServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--busy-reply-threshold", "50")
	p := redistest.NewProxy(t, s.Addr)
	e, _ := quick(t, redis.Options{URL: p.URL()})
	s.Do("SCRIPT", "FLUSH")
	appendTo(t, e, message("m", "u")) // finds the life, over a connection that is kept for others then
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Try("EVAL", "while true do end", "0") // it ends in an error
	}()
	busy := func() bool {
		_, err := s.Try("GET", "x")
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	}
	expect.Eventually(t, "the server to be busy", busy)
	opened := p.Opened()
	redis.SubscribeAnew(e)
	expect.Eventually(t, "the kept connection and others to be tried", func() bool { return p.Opened() > opened+2 })
	if err := e.Check(deadline(t, 10*time.Second)); err == nil {
		t.Error("a busy server takes messages")
	}
	s.Do("SCRIPT", "KILL")
	<-ended
	expect.Eventually(t, "the channels to be heard again", func() bool { return e.Check(deadline(t, 10*time.Second)) == nil })
}

func hubPanics(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	registry := prometheus.NewRegistry()
	g := guard.New(slog.New(slog.DiscardHandler), registry)
	g.SetPause(time.Millisecond)
	e, h := quick(t, redis.Options{URL: s.URL(), Guard: g})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	l := &brittle{hub: h}
	e.Listen(l)
	join(t, e, "u", "s")

	l.broken.Store(true)
	appendTo(t, other, message("a", "u")) // comes over a channel
	appendTo(t, e, message("b", "u"))     // comes back over one
	expect.NoError(t, other.Tell(t.Context(), bridge.Notice{Kind: bridge.NoticeDisconnect, User: "u"}))
	if _, err := other.Ask(deadline(t, 10*time.Second), []string{"u"}); err != nil { // asks this machine, which cannot say
		t.Error(err)
	}
	l.broken.Store(false)
	expect.Eventually(t, "sessions read from the store what they were not told", func() bool {
		return l.toldBehind("u", bridge.Position{Mailbox: 2})
	})
	if r := appendTo(t, e, message("c", "u")); r.Sessions != 1 {
		t.Errorf("%+v", r)
	}
	if online(t, other, "u") != 1 {
		t.Error("the machine's word lapsed")
	}
	families, err := registry.Gather()
	expect.NoError(t, err)
	if len(families) != 1 || families[0].GetMetric()[0].GetCounter().GetValue() < 3 {
		t.Errorf("%v", families)
	}
}
