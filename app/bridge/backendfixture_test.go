package bridge_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
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
	looked   func() // called once, before Presence answers

	outbox *memoryOutbox
	asked  *answers
}

var clinicBackends = bridge.Backends{
	{Name: "clinic", Types: []string{"visit.*", "slots.*", "message", "user.*", "event.*"}, Users: []string{"patient-*"}},
	{Name: "lab", Types: []string{"result.*", bridge.CallbackOffline}},
}

func newClinic(t *testing.T) *clinic {
	c := &clinic{t: t, members: make(map[string]bridge.Member), lastSeen: make(map[string]time.Time), claims: make(map[string][sha256.Size]byte),
		records: make(map[string]bridge.Record), given: make(map[string][]bridge.DeliveryLog), calls: make(map[string]int), fails: make(map[string]error), asked: &answers{}}
	c.outbox = &memoryOutbox{c: c, acked: make(map[string]bool)}
	return c
}

// machine is a bridge on it, which runs its timers until the returned function drains it.
func (c *clinic) machine(change ...func(*bridge.Config)) (b *bridge.Bridge, stop func()) {
	c.t.Helper()
	cfg := bridge.Config{Logger: slog.New(slog.NewTextHandler(&c.logs, nil)), Audit: bridge.NewAudit(slog.New(slog.NewTextHandler(&c.logs, nil))), PingEvery: 24 * time.Hour,
		Backends: clinicBackends, Outbox: c.outbox, Requester: c.asked}
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

// note counts a call, and returns the error that it is to have.
func (c *clinic) note(method string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[method]++
	return c.fails[method]
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

func (c *clinic) Claim(_ context.Context, id string, digest [sha256.Size]byte, _ time.Time) error {
	if err := c.note("Claim"); err != nil {
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

// memoryOutbox keeps callbacks and timers. What is not implemented is not asked of it.
type memoryOutbox struct {
	bridge.Outbox
	c *clinic

	mu     sync.Mutex // guards what follows
	stored []bridge.Callback
	timers []*bridge.Timer
	leases map[string]time.Time // by key
	serial int
	acked  map[string]bool // by user and event
}

func (o *memoryOutbox) all() []bridge.Callback {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.stored)
}

// take forgets what is stored, as sent.
func (o *memoryOutbox) take() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stored = nil
}

func (o *memoryOutbox) add(t bridge.Timer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timers = append(o.timers, &t)
}

func (o *memoryOutbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.timers)
}

func (o *memoryOutbox) store(cs []bridge.Callback) {
	for _, c := range cs {
		if !slices.ContainsFunc(o.stored, func(had bridge.Callback) bool { return had.ID == c.ID }) {
			o.stored = append(o.stored, c)
		}
	}
}

func (o *memoryOutbox) Post(_ context.Context, cs ...bridge.Callback) error {
	if err := o.c.note("Post"); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.store(cs)
	return nil
}

func (o *memoryOutbox) LeaseTimers(_ context.Context, n int) (due []bridge.Timer, err error) {
	if err := o.c.note("LeaseTimers"); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leases == nil {
		o.leases = make(map[string]time.Time)
	}
	slices.SortStableFunc(o.timers, func(a, b *bridge.Timer) int { return a.Due.Compare(b.Due) })
	for _, t := range o.timers {
		if len(due) < n && !t.Due.After(time.Now()) && !o.leases[t.Key].After(time.Now()) && !o.acked[t.User+" "+t.EventID] {
			o.serial++
			t.Key = fmt.Sprint(o.serial)
			o.leases[t.Key] = time.Now().Add(bridge.LeaseFor)
			due = append(due, *t)
		}
	}
	return due, nil
}

func (o *memoryOutbox) Fire(_ context.Context, t bridge.Timer, cs ...bridge.Callback) (bool, error) {
	if err := o.c.note("Fire"); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.timers, func(had *bridge.Timer) bool { return had.Key == t.Key })
	if i < 0 {
		return false, nil
	}
	o.timers = slices.Delete(o.timers, i, i+1)
	if o.acked[t.User+" "+t.EventID] {
		return false, nil
	}
	o.store(cs)
	return true, nil
}

func (o *memoryOutbox) Arm(_ context.Context, user string, due time.Time, begin bool, cs ...bridge.Callback) (bool, error) {
	if err := o.c.note("Arm"); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.timers {
		if t.Type == bridge.CallbackOffline && t.User == user {
			t.Due, t.Key = due, ""
			return false, nil
		}
	}
	if begin {
		o.timers = append(o.timers, &bridge.Timer{Type: bridge.CallbackOffline, User: user, Due: due})
		o.store(cs)
	}
	return begin, nil
}

func (o *memoryOutbox) Backlog(_ context.Context, backend string) (b bridge.Backlog, err error) {
	for _, c := range o.all() {
		if c.Backend == backend {
			b.Waiting++
			b.Bytes += int64(len(c.Body))
		}
	}
	return b, o.c.note("Backlog")
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

// patient is a session in memory that keeps its frames as they are written.
type patient struct {
	*line
	mu     sync.Mutex // guards frames
	frames []string
}

func (p *patient) Write(frames []byte, _ time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range bytes.Lines(frames) {
		p.frames = append(p.frames, strings.TrimSpace(string(f)))
	}
	return nil
}

// got takes the frames that came since the last time.
func (p *patient) got() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, p.frames = p.frames, nil
	return out
}

// code is a frame's type, with its ref, and the code of its problem.
func code(frame string) string {
	var f struct {
		Type, Ref string
		Problem   struct{ Code string }
		Duplicate bool
	}
	if json.Unmarshal([]byte(frame), &f) != nil {
		return frame
	}
	out := f.Type + " " + f.Ref
	if f.Problem.Code != "" {
		out += " " + f.Problem.Code
	}
	if f.Duplicate {
		out += " duplicate"
	}
	return out
}

func codes(frames []string) []string {
	out := []string{}
	for _, f := range frames {
		out = append(out, code(f))
	}
	return out
}

// rights are those of the patients of these tests.
const rights = `{"send":["*"],"backend":["visit.*","slots.*","message","other.*","result.*"]}`

func patientOf(user string) *bridge.Identity {
	id := &bridge.Identity{User: user, Expires: time.Now().Add(1000 * time.Hour)}
	id.Policy, _ = bridge.ParsePolicy([]byte(rights)) // a constant that is right
	return id
}

// join opens a session.
func join(b *bridge.Bridge, user string, h ...bridge.Handshake) *patient {
	p := &patient{line: newLine()}
	hs := bridge.Handshake{Identity: patientOf(user)}
	if len(h) > 0 {
		hs = h[0]
		hs.Identity = patientOf(user)
	}
	if !hs.Plain {
		p.in <- `{"type":"connect"}`
	}
	b.Accept(p, hs)
	return p
}
