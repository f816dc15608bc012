package redis_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
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
	anew   int      // how often the sessions were present again
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

func (h *hub) Restored() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.anew++
}

// restored is how often sessions were present again.
func (h *hub) restored() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.anew
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

func appendTo(t *testing.T, e *redis.Store, m *bridge.Message) bridge.Receipt {
	t.Helper()
	r, err := e.Append(deadline(t, 10*time.Second), m)
	expect.NoError(t, err)
	return r
}

func join(t *testing.T, e *redis.Store, user, session string) bridge.JoinState {
	t.Helper()
	st, err := enter(deadline(t, 10*time.Second), e, bridge.Member{User: user, Session: session, Transport: "websocket", Since: time.Now(), Until: time.Now().Add(time.Hour)})
	expect.NoError(t, err)
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
	expect.NoError(t, err)
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
	expect.NoError(t, err)
	var out []string
	for _, d := range p.Deliveries {
		out = append(out, d.Message.ID)
	}
	return out
}
