package bridge_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// wanderer is a store in memory for one user. It begins another life whenever a
// test says so, also in the middle of the calls that a session makes: sometimes
// with nothing lost, sometimes as it was a while ago.
type wanderer struct {
	storeAndLive // nil: other calls are not made

	listener bridge.Hub

	telling sync.Mutex // orders what the listener hears; taken before mu

	mu      sync.Mutex // guards what follows
	rand    *rand.Rand
	begun   int      // lives
	lineage []string // the store's own list of lives, the one now last
	logs    [2][]kept
	acked   bridge.Position
	saved   []saved
	calm    bool   // no life begins by itself any more
	read    func() // called once, after the next Read; nil: nothing
	present map[string]bool
}

// kept is a message with the life in which it came.
type kept struct {
	id, life string
	expired  bool
}

// saved is a backup.
type saved struct {
	lineage []string
	logs    [2][]kept
	acked   bridge.Position
}

func newWanderer(seed uint64) *wanderer {
	w := &wanderer{rand: rand.New(rand.NewPCG(seed, seed)), present: make(map[string]bool)}
	w.begin()
	return w
}

// begin adds a life to the list; mu is held, or nobody else has w yet.
func (w *wanderer) begin() {
	w.begun++
	w.lineage = append(slices.Clone(w.lineage), fmt.Sprintf("life%d", w.begun))
}

func (w *wanderer) save() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saved = append(w.saved, saved{slices.Clone(w.lineage), [2][]kept{slices.Clone(w.logs[0]), slices.Clone(w.logs[1])}, w.acked})
}

// wander begins another life, and tells of it.
func (w *wanderer) wander() {
	w.telling.Lock()
	defer w.telling.Unlock()
	w.mu.Lock()
	if w.calm {
		w.mu.Unlock()
		return
	}
	if n := len(w.saved); n > 0 && w.rand.IntN(3) > 0 {
		i := w.rand.IntN(n)
		s := w.saved[i]
		w.saved = w.saved[:i+1]
		w.lineage, w.logs, w.acked = s.lineage, [2][]kept{slices.Clone(s.logs[0]), slices.Clone(s.logs[1])}, s.acked
	}
	w.begin()
	life := w.lineage[len(w.lineage)-1]
	w.mu.Unlock()
	w.listener.NewLife(life)
}

// maybe begins another life in the middle of a call, now and then. It tells of it
// beside the call, as a server's connection would.
func (w *wanderer) maybe() {
	w.mu.Lock()
	yes := !w.calm && w.rand.IntN(12) == 0
	w.mu.Unlock()
	if yes {
		w.wander()
	}
}

// put appends a message. Of some the listener never hears.
func (w *wanderer) put(id string, all, sure bool) {
	w.telling.Lock()
	defer w.telling.Unlock()
	w.mu.Lock()
	i := 0
	if all {
		i = 1
	}
	life := w.lineage[len(w.lineage)-1]
	w.logs[i] = append(w.logs[i], kept{id: id, life: life})
	d := bridge.Delivery{Message: w.message(id), Life: life}
	lost := !sure && w.rand.IntN(6) == 0
	if all {
		d.Broadcast = uint64(len(w.logs[i]))
	} else {
		d.Mailbox, d.Message.To.User = uint64(len(w.logs[i])), "ada"
	}
	w.mu.Unlock()
	switch {
	case lost:
	case all:
		w.listener.DeliverAll(d)
	default:
		w.listener.Deliver("ada", d)
	}
}

func (w *wanderer) message(id string) *bridge.Message {
	m := &bridge.Message{ID: id, Expires: time.Now().Add(time.Hour), Event: []byte(`{"id":"` + id + `"}`)}
	m.Encode()
	return m
}

func (w *wanderer) head() bridge.Position {
	return bridge.Position{Mailbox: uint64(len(w.logs[0])), Broadcast: uint64(len(w.logs[1]))}
}

func (w *wanderer) Epoch() string       { return "wanders" }
func (w *wanderer) Listen(l bridge.Hub) { w.listener = l }
func (w *wanderer) Close() error        { return nil }

func (w *wanderer) Life() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lineage[len(w.lineage)-1]
}

func (w *wanderer) LifeEnd(_ context.Context, _, life string) (bridge.Position, error) {
	defer w.maybe()
	w.maybe()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.end(life)
}

func (w *wanderer) end(life string) (p bridge.Position, err error) {
	n := slices.Index(w.lineage, life)
	if n < 0 {
		return p, bridge.ErrRewound
	}
	count := func(log []kept) uint64 {
		for i, k := range log {
			if slices.Index(w.lineage, k.life) > n {
				return uint64(i)
			}
		}
		return uint64(len(log))
	}
	return bridge.Position{Mailbox: count(w.logs[0]), Broadcast: count(w.logs[1])}, nil
}

func (w *wanderer) Join(_ context.Context, m bridge.Member) (bridge.JoinState, error) {
	defer w.maybe()
	w.maybe()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.present[m.Session] = true
	return bridge.JoinState{Head: w.head(), Acked: w.acked, Live: 1, Life: w.lineage[len(w.lineage)-1]}, nil
}

func (w *wanderer) Leave(_ context.Context, t bridge.DeliveryLog) error {
	w.maybe()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.present, t.Member.Session)
	if t.Ended.IsZero() {
		return fmt.Errorf("the trail of %s has no end", t.Member.Session)
	}
	return nil
}

func (w *wanderer) Pending(context.Context, string, bridge.Position) (p bridge.Pending, err error) {
	return p, nil
}

func (w *wanderer) Revoked(context.Context, string, string, time.Time) (bool, error) {
	return false, nil
}

func (w *wanderer) AckLater(ctx context.Context, user, session, life string, p bridge.Position) error {
	return w.Ack(ctx, user, session, life, p)
}

func (w *wanderer) Ack(_ context.Context, _, _, life string, p bridge.Position) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	end, err := w.end(life)
	if err == nil {
		w.acked = w.acked.Max(p.Min(end))
	}
	return err
}

func (w *wanderer) Read(_ context.Context, _, life string, after bridge.Position, maxCount, _ int) (p bridge.Page, err error) {
	defer w.maybe()
	w.maybe()
	w.mu.Lock()
	if then := w.read; then != nil {
		w.read = nil
		defer then()
	}
	defer w.mu.Unlock()
	if life != w.lineage[len(w.lineage)-1] {
		return p, bridge.ErrOtherLife
	}
	at := after.Min(w.head())
	for len(p.Deliveries) < min(maxCount, 5) && at != w.head() {
		d := bridge.Delivery{Life: life}
		if at.Mailbox < w.head().Mailbox {
			at.Mailbox++
			if w.logs[0][at.Mailbox-1].expired {
				continue
			}
			d.Mailbox, d.Message = at.Mailbox, w.message(w.logs[0][at.Mailbox-1].id)
		} else {
			at.Broadcast++
			d.Broadcast, d.Message = at.Broadcast, w.message(w.logs[1][at.Broadcast-1].id)
		}
		p.Deliveries = append(p.Deliveries, d)
	}
	p.Mailbox = bridge.Stretch{After: after.Mailbox, Next: at.Mailbox}
	p.Broadcast = bridge.Stretch{After: after.Broadcast, Next: at.Broadcast}
	p.More = at != w.head()
	return p, nil
}
