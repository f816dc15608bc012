package bridge_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// clinic is a store, those who are live, and an outbox, all in memory, with bridges on
// them. Tests run it in a bubble of synctest, by its clock.
type clinic struct {
	emptyEngine
	t    *testing.T
	logs expect.Output

	mu       sync.Mutex // guards what follows
	members  map[string]bridge.Member
	lastSeen map[string]time.Time
	claims   map[string][sha256.Size]byte
	records  map[string]bridge.Record
	given    map[string][]bridge.DeliveryLog
	calls    map[string]int // by method
	fails    map[string]error
	holds    map[string]chan struct{}
	looked   func() // called once, before Presence answers
	hubs     []bridge.Hub

	outbox *memoryOutbox
	asked  *answers
}

var clinicBackends = bridge.Backends{
	{Name: "clinic", Types: []string{"visit.*", "slots.*", "message", "user.*", "event.*"}, Users: []string{"patient-*"}},
	{Name: "lab", Types: []string{"result.*", bridge.CallbackOffline}},
}

func newClinic(t *testing.T) *clinic {
	c := &clinic{t: t, members: make(map[string]bridge.Member), lastSeen: make(map[string]time.Time), claims: make(map[string][sha256.Size]byte),
		records: make(map[string]bridge.Record), given: make(map[string][]bridge.DeliveryLog), calls: make(map[string]int), fails: make(map[string]error), holds: make(map[string]chan struct{}), asked: &answers{}}
	c.outbox = &memoryOutbox{c: c, acked: make(map[string]bool)}
	return c
}

// machine is a bridge on it, which runs its timers until the returned function drains it.
func (c *clinic) machine(change ...func(*bridge.Config)) (b *bridge.Bridge, stop func()) {
	c.t.Helper()
	cfg := bridge.QuietConfig(func(cfg *bridge.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&c.logs, nil))
		cfg.Audit = bridge.NewAudit(cfg.Logger)
		cfg.PingEvery = 24 * time.Hour
		cfg.Backends, cfg.Outbox, cfg.Requester = clinicBackends, c.outbox, c.asked
	})
	for _, f := range change {
		f(&cfg)
	}
	b = bridge.New(cfg, c, c, noTokens{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if len(cfg.Backends) > 0 {
			b.RunTimers(context.Background())
		}
	}()
	return b, func() {
		c.t.Helper()
		if err := b.Drain(context.Background()); err != nil {
			c.t.Error(err)
		}
		<-ended
	}
}

// note counts a call, waits while it is held, and returns the error that it is to have.
func (c *clinic) note(method string) error {
	hold := c.count(method)
	if hold != nil {
		<-hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fails[method]
}

func (c *clinic) count(method string) (hold chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[method]++
	return c.holds[method]
}

// hold holds the calls of a method until the returned function is called.
func (c *clinic) hold(method string) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hold := make(chan struct{})
	c.holds[method] = hold
	return func() { close(hold) }
}

func (c *clinic) fail(method string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails[method] = err
}

func (c *clinic) called(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

func (c *clinic) Join(_ context.Context, m bridge.Member) (st bridge.JoinState, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hubs {
		h.Joined(m)
	}
	c.members[m.Session] = m
	for _, o := range c.members {
		if o.User == m.User {
			st.Live++
		}
	}
	return st, nil
}

func (c *clinic) Leave(_ context.Context, log bridge.DeliveryLog) error {
	if err := c.note("Leave"); err != nil {
		return err
	}
	c.lapse(log.Member.User, log.Member.Session)
	return nil
}

// Read fails as it is to when it begins, and not once it is let go.
func (c *clinic) Read(context.Context, string, string, bridge.Position, int, int) (p bridge.Page, err error) {
	hold := c.count("Read")
	err = c.failing("Read")
	if hold != nil {
		<-hold
	}
	return p, err
}

func (c *clinic) failing(method string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fails[method]
}

// lapse ends a session's presence, or all of a user's.
func (c *clinic) lapse(user, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, m := range c.members {
		if m.User == user && (session == "" || id == session) {
			delete(c.members, id)
			c.lastSeen[user] = time.Now()
		}
	}
}

func (c *clinic) Presence(_ context.Context, users []string) ([]bridge.Presence, error) {
	if err := c.note("Presence"); err != nil {
		return nil, err
	}
	out, looked := c.presence(users)
	if looked != nil {
		looked()
	}
	return out, nil
}

func (c *clinic) Listen(h bridge.Hub) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.hubs, h) { // it is told as a store, and as who is live
		c.hubs = append(c.hubs, h)
	}
}

// newLife begins another life of the store, in which nobody is known to be connected until
// the returned function is called: by then the machines have written it anew.
func (c *clinic) newLife() (settled func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := c.members
	c.members = make(map[string]bridge.Member)
	for _, h := range c.hubs {
		h.NewLife("later")
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.members = members
	}
}

// restored tells that sessions are present again.
func (c *clinic) restored() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hubs {
		h.Restored()
	}
}

func (c *clinic) presence(users []string) ([]bridge.Presence, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	looked := c.looked
	c.looked = nil
	out := make([]bridge.Presence, len(users))
	for i, user := range users {
		out[i] = bridge.Presence{User: user, LastSeen: c.lastSeen[user]}
		for _, m := range c.members {
			if m.User == user {
				out[i].Sessions++
				out[i].LastSeen = time.Now()
			}
		}
	}
	return out, looked
}

func (c *clinic) Lookup(_ context.Context, id string) (bridge.Record, error) {
	if err := c.note("Lookup"); err != nil {
		return bridge.Record{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.claims[id]; ok {
		return bridge.Record{ID: id, Type: bridge.ClaimType}, nil
	}
	if r, ok := c.records[id]; ok {
		return r, nil
	}
	return bridge.Record{}, bridge.ErrUnknown
}

// Claim fails apart for what is claimed to be stored.
func (c *clinic) Claim(_ context.Context, id string, digest [sha256.Size]byte, _ time.Time) error {
	method := "Claim"
	if strings.HasPrefix(id, "stored:") {
		method = "Claim stored"
	}
	if err := c.note(method); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if had, ok := c.claims[id]; ok && had != digest {
		return bridge.ErrConflict
	}
	c.claims[id] = digest
	return nil
}

func (c *clinic) DeliveryLogs(_ context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([][]bridge.DeliveryLog, len(users))
	for i, user := range users {
		out[i] = slices.Clone(c.given[user])
	}
	return out, nil
}

func (c *clinic) Ask(context.Context, []string) ([]bridge.DeliveryLog, error) { return nil, nil }

// told lists the callbacks that were stored, by type and user, in their order.
func (c *clinic) told() []string {
	out := []string{}
	for _, cb := range c.outbox.all() {
		out = append(out, cb.Backend+" "+cb.Type+" "+cb.User)
	}
	return out
}

func (c *clinic) want(when string, want ...string) {
	c.t.Helper()
	if got := c.told(); !slices.Equal(got, want) {
		c.t.Errorf("%s: told %q, want %q", when, got, want)
	}
}

// answers are a backend's, to requests.
type answers struct {
	mu     sync.Mutex // guards what follows
	reply  func(ctx context.Context, body []byte) (int, []byte, error)
	bodies []string
	asked  []string // backend and timeout
}

func (a *answers) set(reply func(ctx context.Context, body []byte) (int, []byte, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reply = reply
}

func (a *answers) Request(ctx context.Context, backend, id string, body []byte, timeout time.Duration) (int, []byte, error) {
	a.mu.Lock()
	if !strings.HasPrefix(id, "req_") {
		id = "bad id " + id
	} else {
		id = ""
	}
	a.bodies = append(a.bodies, string(body))
	a.asked = append(a.asked, fmt.Sprint(cmp.Or(id, backend), " ", timeout))
	reply := a.reply
	a.mu.Unlock()
	return reply(ctx, body)
}

func (a *answers) State(string) bridge.BackendState { return bridge.BackendState{} }
