package bridge_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestMachines(t *testing.T) {
	t.Run("tell a caller of progress on another machine", machinesTellProgress)
	t.Run("let a caller wait for an event that was published before", machinesWaitForEarlier)
	t.Run("count a user's sessions together", machinesCountSessions)
	t.Run("make sessions read up to the head that they are told", machinesReadUpToHead)
}

// machines are bridges on one store, which hear of each other's messages and
// notices as over a network.
type machines struct {
	onDisk
	mu    sync.Mutex // guards what follows
	hubs  map[string]bridge.Hub
	asked map[string]string // which machine appended a message
	lose  func(id string) bool
}

// machine is the store as one of them sees it.
type machine struct {
	*machines
	name string
}

func (m *machine) Listen(l bridge.Hub) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hubs[m.name] = l
}

func (m *machine) Append(ctx context.Context, msg *bridge.Message) (bridge.Receipt, error) {
	m.mu.Lock()
	if m.asked[msg.ID] == "" {
		m.asked[msg.ID] = m.name
	}
	m.mu.Unlock()
	return m.onDisk.Append(ctx, msg)
}

func (m *machine) Tell(_ context.Context, n bridge.Notice) error {
	for name, l := range m.each() {
		if n.To != "" && n.To != name {
			continue
		}
		told := n
		if name != m.name {
			told.Asker = m.name
		}
		l.Notify(told)
	}
	return nil
}

func (m *machines) each() map[string]bridge.Hub {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]bridge.Hub, len(m.hubs))
	for name, l := range m.hubs {
		out[name] = l
	}
	return out
}

func (m *machines) spread(d bridge.Delivery, f func(l bridge.Hub, d bridge.Delivery) int) (sessions int) {
	if m.lose != nil && m.lose(d.Message.ID) {
		return 0
	}
	m.mu.Lock()
	asker := m.asked[d.Message.ID]
	m.mu.Unlock()
	for name, l := range m.each() {
		there := d
		if name != asker && d.Message.Wanted != "" {
			c := *d.Message
			c.Asker = asker
			there.Message = &c
		}
		sessions += f(l, there)
	}
	return sessions
}

// network is the one Hub that the store knows.
type network struct{ *machines }

func (n network) Deliver(user string, d bridge.Delivery) int {
	return n.spread(d, func(l bridge.Hub, d bridge.Delivery) int { return l.Deliver(user, d) })
}

func (n network) DeliverAll(d bridge.Delivery) int {
	return n.spread(d, func(l bridge.Hub, d bridge.Delivery) int { return l.DeliverAll(d) })
}

func (n network) Notify(notice bridge.Notice) {
	for _, l := range n.each() {
		l.Notify(notice)
	}
}

func (n network) Behind(user string, head bridge.Position) {
	for _, l := range n.each() {
		l.Behind(user, head)
	}
}

func (n network) NewLife(life string) {
	for _, l := range n.each() {
		l.NewLife(life)
	}
}

func (n network) Restored() {
	for _, l := range n.each() {
		l.Restored()
	}
}

func (n network) Joined(m bridge.Member) {
	for _, l := range n.each() {
		l.Joined(m)
	}
}

func (n network) Left(user, session string) (wasPresent bool) {
	for _, l := range n.each() {
		wasPresent = l.Left(user, session) || wasPresent
	}
	return wasPresent
}

func (n network) Members(user string) (out []bridge.Member) {
	for _, l := range n.each() {
		out = append(out, l.Members(user)...)
	}
	slices.SortFunc(out, bridge.OldestFirst)
	return out
}

func (n network) AllMembers() (out []bridge.Member) {
	for _, l := range n.each() {
		out = append(out, l.AllMembers()...)
	}
	return out
}

func (n network) Count(user string, except []string) (sessions int) {
	for _, l := range n.each() {
		sessions += l.Count(user, except)
	}
	return sessions
}

func (n network) DeliveryLogs(user string) (out []bridge.DeliveryLog) {
	for _, l := range n.each() {
		out = append(out, l.DeliveryLogs(user)...)
	}
	return out
}

// Ask asks the other machines.
func (m *machine) Ask(_ context.Context, users []string) (out []bridge.DeliveryLog, err error) {
	for name, l := range m.each() {
		for _, user := range users {
			if name != m.name {
				out = append(out, l.DeliveryLogs(user)...)
			}
		}
	}
	return out, nil
}

func newMachines(t *testing.T, limit int) (network, *bridge.Bridge, *bridge.Bridge) {
	t.Helper()
	store := openStore(t, sqlite.Options{})
	all := &machines{onDisk: store, hubs: map[string]bridge.Hub{}, asked: map[string]string{}}
	store.Listen(network{all})
	var bridges []*bridge.Bridge
	for _, name := range []string{"a", "b"} {
		m := &machine{all, name}
		bridges = append(bridges, bridge.New(bridge.QuietConfig(func(c *bridge.Config) { c.SessionsPerUser = limit }), m, m, noTokens{}))
	}
	t.Cleanup(func() {
		for _, b := range bridges {
			if err := b.Drain(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return network{all}, bridges[0], bridges[1]
}

func ask(t *testing.T, b *bridge.Bridge, id string, to wire.Target, level bridge.Status, patience time.Duration) bridge.Outcome {
	t.Helper()
	o, err := b.Publish(t.Context(), bridge.PublishRequest{ID: id, Timestamp: time.Now(), Digest: sha256.Sum256([]byte(id)),
		Event: wire.Event{Type: "t", To: to, TTL: -1}}, bridge.Wait{For: level, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// acking acks all that comes.
func acking(l *line) {
	go func() {
		for m := range l.out {
			if m["type"] == "event" {
				l.in <- fmt.Sprintf(`{"type":"ack","cursor":%q}`, m["cursor"])
			}
		}
	}()
}

func machinesTellProgress(t *testing.T) {
	_, a, b := newMachines(t, 16)
	here, _ := connect(t, a, "here")
	there, _ := connect(t, b, "there")
	both1, _ := connect(t, a, "both")
	both2, _ := connect(t, b, "both")
	for _, l := range []*line{here, there, both1, both2} {
		acking(l)
	}
	for i, to := range []wire.Target{{User: "there"}, {User: "both"}, {Users: []string{"here", "there", "both", "away"}}, {All: true}} {
		for round := range 20 {
			o := ask(t, a, fmt.Sprintf("m_%d_%d", i, round), to, bridge.StatusAcked, 20*time.Second)
			if o.Status != bridge.StatusAcked || o.Sessions == 0 {
				t.Fatalf("%+v: %+v", to, o)
			}
		}
	}
	if o := ask(t, b, "m_0_0", wire.Target{User: "there"}, bridge.StatusAcked, 20*time.Second); o.Status != bridge.StatusAcked || !o.Duplicate {
		t.Errorf("%+v", o)
	}
}

func machinesWaitForEarlier(t *testing.T) {
	_, a, b := newMachines(t, 16)
	there, _ := connect(t, b, "there")
	ask(t, a, "m", wire.Target{User: "there"}, "", 0)
	f := there.next(t)
	answers := make(chan bridge.Outcome)
	go func() { answers <- ask(t, a, "m", wire.Target{User: "there"}, bridge.StatusAcked, 20*time.Second) }()
	there.in <- fmt.Sprintf(`{"type":"ack","cursor":%q}`, f["cursor"])
	if o := <-answers; o.Status != bridge.StatusAcked || !o.Duplicate || o.Sessions != 1 {
		t.Errorf("%+v", o)
	}
}

func machinesCountSessions(t *testing.T) {
	_, a, b := newMachines(t, 2)
	var lines []*line
	for _, m := range []*bridge.Bridge{a, b, a, b} {
		l, _ := connect(t, m, "patient-1")
		lines = append(lines, l)
	}
	for _, l := range lines[:2] {
		select {
		case <-l.gone:
		case <-time.After(expect.Patience):
			t.Fatal("an older session stays")
		}
	}
	for i, l := range lines[2:] {
		select {
		case <-l.gone:
			t.Errorf("newer session %d was ended", i)
		default:
		}
	}
}

func machinesReadUpToHead(t *testing.T) {
	n, a, _ := newMachines(t, 16)
	l, _ := connect(t, a, "patient-1")
	other, _ := connect(t, a, "patient-2")
	n.lose = func(string) bool { return true }
	for i := range 3 {
		publish(t, a, fmt.Sprintf("lost_%d", i), wire.Target{User: "patient-1"})
	}
	publish(t, a, "lost_all", wire.Target{All: true})
	n.Behind("patient-1", bridge.Position{Mailbox: 3})
	for i := range 3 {
		if got := eventID(l.next(t)); got != fmt.Sprintf("lost_%d", i) {
			t.Fatal(got)
		}
	}
	if got := eventID(l.next(t)); got != "lost_all" {
		t.Fatal(got)
	}
	n.Behind("", bridge.Position{Broadcast: 1})
	if got := eventID(other.next(t)); got != "lost_all" {
		t.Fatal(got)
	}
	n.Behind("patient-1", bridge.Position{Mailbox: 3}) // nothing more to read, and nothing twice
	n.lose = nil
	publish(t, a, "last", wire.Target{User: "patient-1"})
	if got := eventID(l.next(t)); got != "last" {
		t.Fatal(got)
	}
}
