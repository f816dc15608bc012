package redis_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
	"hookbridge/app/store/storetest"
)

// hub is a Hub that remembers.
type hub struct {
	storetest.Hub

	mu     sync.Mutex // guards what follows
	heard  []string
	behind map[string]bridge.Position
	told   map[string]bool // kinds and users of notices
	lives  []string
	of     []string // the lives of what was heard
}

func (h *hub) Deliver(_ string, d bridge.Delivery) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard, h.of = append(h.heard, d.Message.ID), append(h.of, d.Life)
	return 1
}
func (h *hub) DeliverAll(d bridge.Delivery) int { return h.Deliver("", d) }
func (h *hub) Notify(n bridge.Notice) {
	h.Hub.Notify(n)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.told == nil {
		h.told = map[string]bool{}
	}
	h.told[string(n.Kind)+" "+n.User] = true
}
func (h *hub) NewLife(life string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lives = append(h.lives, life)
}

// lived is how many new lives were told of, and last the last message heard.
func (h *hub) lived() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lives)
}

func (h *hub) last() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.heard) == 0 {
		return ""
	}
	return h.heard[len(h.heard)-1]
}
func (h *hub) Behind(user string, head bridge.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.behind == nil {
		h.behind = map[string]bridge.Position{}
	}
	h.behind[user] = head
}

func (h *hub) toldBehind(user string, head bridge.Position) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.behind[user] == head
}

// mortal is the lease of a machine that is to be taken for dead soon. With any other
// lease a machine is not, even if it gets no time to renew the lease.
const mortal = 600 * time.Millisecond

// quick opens a store that notices things soon.
func quick(t *testing.T, o redis.Options) (*redis.Store, *hub) {
	t.Helper()
	o.Lease, o.Renew, o.Patience = cmp.Or(o.Lease, 10*time.Second), 100*time.Millisecond, cmp.Or(o.Patience, time.Second)
	e, err := redis.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{}
	e.Listen(h)
	t.Cleanup(func() {
		_ = e.Close() // a test may have closed it, or taken Redis away from it
	})
	return e, h
}

func message(id, user string) *bridge.Message {
	m := &bridge.Message{ID: id, To: bridge.Target{User: user, All: user == ""}, Event: fmt.Appendf(nil, `{"id":%q}`, id), Type: "t",
		At: time.Now().UTC(), Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond), Digest: sha256.Sum256([]byte(id))}
	m.Encode()
	return m
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, e *redis.Store, m *bridge.Message) bridge.Receipt {
	t.Helper()
	r, err := e.Append(deadline(t, 10*time.Second), m)
	must(t, err)
	return r
}

func join(t *testing.T, e *redis.Store, user, session string) bridge.JoinState {
	t.Helper()
	st, err := enter(deadline(t, 10*time.Second), e, bridge.Member{User: user, Session: session, Transport: "websocket", Since: time.Now(), Until: time.Now().Add(time.Hour)})
	must(t, err)
	return st
}

// enter has a session join, registered in the hub before, as the bridge does.
func enter(ctx context.Context, e *redis.Store, m bridge.Member) (bridge.JoinState, error) {
	h, ok := redis.HubOf(e).(interface {
		Join(context.Context, bridge.Live, bridge.Member) (bridge.JoinState, error)
	})
	if !ok {
		return e.Join(ctx, m)
	}
	return h.Join(ctx, e, m)
}

func online(t *testing.T, e *redis.Store, user string) int {
	t.Helper()
	list, err := e.Presence(deadline(t, 10*time.Second), []string{user})
	must(t, err)
	return list[0].Sessions
}

// presentNow is online for who waits through a fault: -1 while that cannot be told.
func presentNow(t *testing.T, e *redis.Store, user string) int {
	t.Helper()
	list, err := e.Presence(deadline(t, 10*time.Second), []string{user})
	if err != nil {
		return -1
	}
	return list[0].Sessions
}

func stored(t *testing.T, e *redis.Store, user string) []string {
	t.Helper()
	p, err := e.Read(deadline(t, 10*time.Second), user, e.Life(), bridge.Position{}, 10_000, 1<<30)
	must(t, err)
	var out []string
	for _, d := range p.Deliveries {
		out = append(out, d.Message.ID)
	}
	return out
}

func TestADeadMachinesSessionsLapseWithItsLease(t *testing.T) {
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
	redistest.Eventually(t, "the lease to lapse", func() bool { return presentNow(t, other, "u") == 0 })
	if r := appendTo(t, other, message("b", "u")); r.Sessions != 0 {
		t.Errorf("%+v", r)
	}
	list, err := other.Presence(deadline(t, 10*time.Second), []string{"u"})
	must(t, err)
	if list[0].LastSeen.IsZero() || time.Since(list[0].LastSeen) > time.Minute {
		t.Errorf("%+v", list[0])
	}
	if st := join(t, other, "u", "ses_2"); st.Live != 1 {
		t.Errorf("%+v", st)
	}
	proxy.Mend() // it was only away: its sessions are there again
	redistest.Eventually(t, "it to come back", func() bool { return presentNow(t, other, "u") == 2 })
}

func TestWhatAMachineCouldNotHearIsFoundInTheStore(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	deaf, h := quick(t, redis.Options{URL: proxy.URL()})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	join(t, deaf, "u", "ses_1")
	appendTo(t, other, message("heard", "u"))
	redistest.Eventually(t, "the first message", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.heard) == 1 })
	for round := range 2 {
		proxy.Cut()
		for i := range 5 {
			appendTo(t, other, message(fmt.Sprintf("m_%d_%d", round, i), "u"))
		}
		appendTo(t, other, message(fmt.Sprintf("all_%d", round), ""))
		proxy.Drop()
		proxy.Mend()
		redistest.Eventually(t, "to be told how far it goes", func() bool {
			return h.toldBehind("u", bridge.Position{Mailbox: uint64(6 + 5*round)}) && h.toldBehind("", bridge.Position{Broadcast: uint64(1 + round)})
		})
	}
}

func TestARestartOfRedisLosesNothingThatWasAnswered(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, h := quick(t, redis.Options{URL: s.URL()})
	join(t, e, "u", "ses_1")
	f := send(t, e, "u")
	for range 3 {
		before := f.counts()
		redistest.Eventually(t, "some messages", func() bool { return f.counts()["u"] > before["u"]+100 })
		s.Kill()
		if err := e.Check(deadline(t, 5*time.Second)); !errors.Is(err, bridge.ErrUnavailable) {
			t.Errorf("check: %v", err)
		}
		s.Restart()
		redistest.Eventually(t, "it to be well", func() bool { return e.Check(deadline(t, 5*time.Second)) == nil })
	}
	f.stop()
	if online(t, e, "u") != 1 {
		t.Error("the session is not present any more")
	}
	head := join(t, e, "u", "ses_1").Head
	redistest.Eventually(t, "to be told how far it goes", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.behind["u"].Mailbox > 0 && h.behind["u"].Mailbox <= head.Mailbox
	})
}

func TestScriptsThatRedisForgetsAreSentAgain(t *testing.T) {
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
			must(t, a.Err)
		}
	}
	got := stored(t, e, "u")
	for i := range 20 {
		if got[21*i] != fmt.Sprint("m", i) || got[21*i+20] != fmt.Sprintf("b%d_19", i) {
			t.Fatalf("out of order: %v", got[21*i:21*i+21])
		}
	}
}

func TestAFullRedisIsUnavailableAndLosesNothing(t *testing.T) {
	heavy(t)
	s := redistest.Start(t, "--maxmemory", "30mb", "--maxmemory-policy", "noeviction")
	e, _ := quick(t, redis.Options{URL: s.URL(), MailboxBytes: 1 << 30})
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
	must(t, e.Check(deadline(t, 5*time.Second)))
}

func TestWhatWasRevokedOrErasedWhileAMachineWasDeafIsMadeGood(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	deaf, h := quick(t, redis.Options{URL: proxy.URL()})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	for _, user := range []string{"revoked", "erased", "unharmed"} {
		join(t, deaf, user, "ses_"+user)
	}
	proxy.Cut()
	must(t, other.Revoke(deadline(t, 5*time.Second), "revoked", bridge.Revocation{TokenID: "stolen"}))
	must(t, other.Erase(deadline(t, 5*time.Second), "erased"))
	proxy.Drop()
	proxy.Mend()
	redistest.Eventually(t, "the notices", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.told["revoked revoked"] && h.told["erased erased"]
	})
	redistest.Eventually(t, "the others to see who is left", func() bool {
		return presentNow(t, other, "revoked") == 1 && presentNow(t, other, "erased") == 0 && presentNow(t, other, "unharmed") == 1
	})
}
