package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// limit is the size of a mailbox in the suite, small enough to fill.
const limit = 10

// fixture is one test's store, its clock and what its Hub heard.
type fixture struct {
	*testing.T
	store   bridge.Store
	live    bridge.Live
	outbox  bridge.Outbox
	kill    func() // ends the store as kill -9 would
	backend Backend
	harness Harness
	clock   *Clock
	hub     *recorder
	table   *Hub       // who is connected
	heard   bridge.Hub // hub, unless the test brings its own
	ctx     context.Context
	serial  atomic.Int64
}

func newFixture(t *testing.T, h Harness) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), expect.Patience)
	t.Cleanup(cancel)
	f := &fixture{T: t, harness: h, clock: NewClock(), table: &Hub{}, ctx: ctx}
	f.hub = &recorder{Hub: f.table}
	f.heard = f.hub
	f.roomy()
	return f
}

// roomy and tight give the test a new store, with the store's own limit for a
// mailbox or a small one.
func (f *fixture) roomy() { f.fresh(Options{}) }
func (f *fixture) tight() { f.fresh(Options{MailboxLimit: limit}) }

func (f *fixture) fresh(o Options) {
	f.Helper()
	if f.store != nil {
		f.close()
	}
	o.Now = f.clock.Now
	f.backend = f.harness(f.T, o)
	f.start()
}

func (f *fixture) start() {
	f.Helper()
	p := must(f.backend.Open())(f, "open")
	f.store, f.live, f.outbox, f.kill = p.Store, p.Live, p.Outbox, p.Kill
	f.table.restart()
	f.store.Listen(f.heard)
	f.live.Listen(f.heard)
	f.Cleanup(func() {
		// A test may have closed it already.
		_ = p.Store.Close()
	})
}

func (f *fixture) close() {
	f.Helper()
	f.ok("close", f.store.Close())
}

func (f *fixture) reopen() {
	f.Helper()
	f.close()
	f.start()
}

// message makes a message that is kept for an hour.
func (f *fixture) message(to bridge.Target) *bridge.Message {
	id := fmt.Sprintf("msg_%d", f.serial.Add(1))
	m := &bridge.Message{
		ID:      id,
		To:      to,
		Event:   eventOf(id),
		Type:    "test",
		At:      f.clock.Now().UTC().Truncate(time.Millisecond),
		Expires: f.clock.Now().Add(time.Hour).UTC(),
	}
	m.Digest = digestOf(m.Event)
	m.Encode()
	return m
}

func eventOf(id string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"test","data":{"n":1}}`, id)
}

func digestOf(event []byte) [sha256.Size]byte { return sha256.Sum256(event) }

// ok ends the test where a call has failed.
func (f *fixture) ok(call string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", call, err)
	}
}

// must is the value of a call, and ends the test where that has failed:
// must(f.store.Groups(f.ctx, user))(f, "groups").
func must[T any](v T, err error) func(f *fixture, call string) T {
	return func(f *fixture, call string) T {
		f.Helper()
		f.ok(call, err)
		return v
	}
}

func (f *fixture) append(m *bridge.Message) bridge.Receipt {
	f.Helper()
	r, err := f.store.Append(f.ctx, m)
	if err != nil {
		f.Fatalf("append %s: %v", m.ID, err)
	}
	return r
}

// send appends one message that is kept for ttl, and returns it.
func (f *fixture) send(to bridge.Target, ttl time.Duration) *bridge.Message {
	f.Helper()
	m := f.message(to)
	m.Expires = f.clock.Now().Add(ttl).UTC()
	f.append(m)
	return m
}

func (f *fixture) join(user string) bridge.JoinState {
	f.Helper()
	s, err := f.table.Join(f.ctx, f.live, bridge.Member{User: user, Session: "ses_1", Transport: "websocket", Since: f.clock.Now(), Token: "none", Issued: f.clock.Now()})
	if err != nil {
		f.Fatalf("join %q: %v", user, err)
	}
	return s
}

// standing is join's answer without the life, which each store names at random.
func (f *fixture) standing(user string) bridge.JoinState {
	f.Helper()
	s := f.join(user)
	if s.Life != f.store.Life() {
		f.Fatalf("%q stands in the life %q, and the store lives %q", user, s.Life, f.store.Life())
	}
	s.Life = ""
	return s
}

func (f *fixture) ack(user string, p bridge.Position) {
	f.Helper()
	f.ok("ack", f.store.Ack(f.ctx, user, "ses_1", f.store.Life(), p))
}

func (f *fixture) read(user string, after bridge.Position, count, bytes int) bridge.Page {
	f.Helper()
	return must(f.store.Read(f.ctx, user, f.store.Life(), after, count, bytes))(f, "read")
}

// all reads to the head in one page, which the suite's small stores fit in.
func (f *fixture) all(user string, after bridge.Position) bridge.Page {
	f.Helper()
	p := f.read(user, after, 10_000, 1<<30)
	if p.More {
		f.Fatal("a page with room for everything says that there is more")
	}
	return p
}

// finds checks what there is to read in a user's mailbox and in the log of messages to
// all: the messages with these ids, and what was lost.
func (f *fixture) finds(user string, lost bridge.Lost, want ...string) {
	f.Helper()
	p := f.all(user, bridge.Position{})
	f.equal("messages", ids(p.Deliveries), want)
	f.equal("lost", p.Lost(), lost)
}

func (f *fixture) pending(user string, after bridge.Position) int {
	f.Helper()
	p := must(f.store.Pending(f.ctx, user, after))(f, "pending")
	return p.Count()
}

func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		f.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

func user(name string) bridge.Target { return bridge.Target{User: name} }

// numbered are the users u0, u1 and so on.
func numbered(n int) []string {
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprint("u", i)
	}
	return users
}

var everybody = bridge.Target{All: true}

// ids lists the messages of some deliveries.
func ids(ds []bridge.Delivery) []string {
	out := []string{}
	for _, d := range ds {
		out = append(out, d.Message.ID)
	}
	return out
}

// Clock is the time as the store sees it; it only moves when told to.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts at this moment, in milliseconds as the protocol has them.
func NewClock() *Clock { return &Clock{now: time.Now().Truncate(time.Millisecond)} }

// Now is the clock for Options.Now.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// heard is one call of the Hub.
type heard struct {
	user string // empty: to all
	bridge.Delivery
}

// recorder is a Hub that remembers, and pretends to have one session for
// every user.
type recorder struct {
	*Hub

	mu      sync.Mutex
	calls   []heard
	onAny   func(heard) // called with mu held
	notices []bridge.Notice
	lives   []string // that NewLife told of
}

// Notify implements bridge.Hub.
func (r *recorder) Notify(n bridge.Notice) {
	r.Hub.Notify(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notices = append(r.notices, n)
}

func (r *recorder) NewLife(life string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives = append(r.lives, life)
}

// born reports whether the Hub was told of a life.
func (r *recorder) born(life string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.lives, life)
}

// told returns the notices of a kind that were heard.
func (r *recorder) told(k bridge.NoticeKind) []bridge.Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []bridge.Notice
	for _, n := range r.notices {
		if n.Kind == k {
			out = append(out, n)
		}
	}
	return out
}

func (r *recorder) Deliver(user string, d bridge.Delivery) int { return r.note(heard{user, d}) }
func (r *recorder) DeliverAll(d bridge.Delivery) int           { return r.note(heard{"", d}) }

func (r *recorder) note(h heard) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, h)
	if r.onAny != nil {
		r.onAny(h)
	}
	return 1
}

// of returns what was heard for one user, or for all where user is empty.
func (r *recorder) of(user string) []bridge.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []bridge.Delivery
	for _, h := range r.calls {
		if h.user == user {
			out = append(out, h.Delivery)
		}
	}
	return out
}
