package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// Size of the hand-over's load.
const (
	senders   = 64
	perSender = 40
)

var handover = []promise{
	{"whoever joins under load, reads, and then listens, misses nothing and sees everything in order", func(f *fixture) {
		// The user is known before the load, so that all messages to all count.
		f.join("u")
		hub := &tap{Hub: f.table}
		f.heard = hub
		f.reopen()
		var sent atomic.Int64
		var load sync.WaitGroup
		for range senders {
			load.Go(func() {
				for i := range perSender {
					m := f.message(user("u"))
					if i%8 == 0 {
						m.To = everybody
					}
					if _, err := f.store.Append(f.ctx, m); err != nil {
						f.Errorf("append: %v", err)
						return
					}
					sent.Add(1)
				}
			})
		}
		var readers sync.WaitGroup
		late := make([]*follower, 4)
		for i := range late {
			readers.Go(func() {
				expect.Eventually(f, "the load to get there", func() bool { return f.Failed() || int(sent.Load()) >= i*senders*perSender/5 })
				late[i] = follow(f, hub)
			})
		}
		load.Wait()
		readers.Wait()
		if f.Failed() {
			return
		}
		head := f.join("u").Head
		f.equal("head", head, bridge.Position{Mailbox: senders * perSender * 7 / 8, Broadcast: senders * perSender / 8})
		p := f.all("u", bridge.Position{})
		f.equal("lost", p.Lost(), bridge.Lost{})
		want := split(p.Deliveries)
		for i, l := range late {
			expect.Eventually(f, "the last delivery", func() bool { return l.caughtUp(head) })
			if err := l.fault(); err != nil {
				f.Fatalf("reader %d: %v", i, err)
			}
			f.equal("what a late reader saw", split(l.seen), want)
		}
	}},
}

// split lists the ids of both logs.
func split(ds []bridge.Delivery) [2][]string {
	var out [2][]string
	for _, d := range ds {
		if d.Mailbox != 0 {
			out[0] = append(out[0], d.Message.ID)
		} else {
			out[1] = append(out[1], d.Message.ID)
		}
	}
	return out
}

// tap is a Hub that followers can join at any time.
type tap struct {
	*Hub

	mu        sync.Mutex
	followers []*follower
}

// Deliver implements bridge.Hub.
func (h *tap) Deliver(_ string, d bridge.Delivery) int { return h.DeliverAll(d) }

// DeliverAll implements bridge.Hub.
func (h *tap) DeliverAll(d bridge.Delivery) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.followers {
		l.hear(d)
	}
	return len(h.followers)
}

// follower does what a session does: it registers, joins, reads to the head, and
// from there on takes what it hears, leaving out what it has read.
type follower struct {
	mu      sync.Mutex
	replay  bool
	waiting []bridge.Delivery // heard during the replay
	at      bridge.Position
	seen    []bridge.Delivery
	err     error
}

func follow(f *fixture, hub *tap) *follower {
	l := &follower{replay: true}
	hub.mu.Lock()
	hub.followers = append(hub.followers, l)
	hub.mu.Unlock()
	f.join("u")
	for more := true; more; {
		p := f.read("u", l.at, 50, 1<<20)
		l.mu.Lock()
		for _, d := range p.Deliveries {
			l.take(d)
		}
		if l.at != p.Next() && l.err == nil {
			l.err = fmt.Errorf("the page ends at %+v and says %+v", l.at, p.Next())
		}
		l.mu.Unlock()
		more = p.More
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replay = false
	for _, d := range l.waiting {
		l.take(d)
	}
	return l
}

func (l *follower) hear(d bridge.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replay {
		l.waiting = append(l.waiting, d)
		return
	}
	l.take(d)
}

// take is called with mu held.
func (l *follower) take(d bridge.Delivery) {
	at, seq := &l.at.Mailbox, d.Mailbox
	if d.Broadcast != 0 {
		at, seq = &l.at.Broadcast, d.Broadcast
	}
	switch {
	case seq <= *at: // read already
	case seq == *at+1:
		*at = seq
		l.seen = append(l.seen, d)
	case l.err == nil:
		l.err = fmt.Errorf("after %+v came %d/%d", l.at, d.Mailbox, d.Broadcast)
	}
}

func (l *follower) caughtUp(head bridge.Position) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil || l.at.Covers(head)
}

func (l *follower) fault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
