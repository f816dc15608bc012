package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/bridge"
)

// filledIDs is beyond the number of messages that Fill sends.
const filledIDs = 300

// comparisons numbers the runs of Same, so that each sends ids of its own.
var comparisons atomic.Int64

// pair is two stores that are to be told apart by nothing.
type pair struct {
	*testing.T
	a, b *fixture
	name string
}

// Same fails the test where two pairs, both just opened, tell different things
// of a store that Fill has filled, or go on from it differently. It writes to
// both, the same, and moves their clock.
func Same(t *testing.T, a, b Pair, c *Clock) {
	t.Helper()
	p := &pair{T: t, a: carried(t, a, c), b: carried(t, b, c), name: fmt.Sprint("same_", comparisons.Add(1), "_")}
	if a.Store.Epoch() != b.Store.Epoch() {
		t.Errorf("epochs %q and %q", a.Store.Epoch(), b.Store.Epoch())
	}
	p.ids()
	p.people()
	p.mailboxes("as it was", 2)
	for _, u := range filledUsers {
		p.same("where "+u+" stands", func(f *fixture) any { return f.standing(u) })
	}
	p.ids()
	p.mailboxes("with everybody there", 5)
	p.goOn()
	p.mailboxes("with new messages", 5)
	c.Advance(2 * time.Hour)
	p.ids()
	p.mailboxes("later", 3)
	if a.Outbox != nil && b.Outbox != nil {
		p.outboxes()
	}
}

// same compares what both tell.
func (p *pair) same(what string, tell func(f *fixture) any) {
	p.Helper()
	if a, b := fmt.Sprintf("%+v", tell(p.a)), fmt.Sprintf("%+v", tell(p.b)); a != b {
		p.Errorf("%s:\n%s and\n%s", what, a, b)
	}
}

// ids compares what is remembered of every id, also by those who send it again.
func (p *pair) ids() {
	p.Helper()
	known := 0
	for i := 1; i <= filledIDs; i++ {
		id := fmt.Sprint("msg_", i)
		p.same("lookup "+id, func(f *fixture) any {
			r, err := f.store.Lookup(f.ctx, id)
			switch {
			case errors.Is(err, bridge.ErrUnknown):
				return bridge.ErrUnknown
			case err != nil:
				f.Fatalf("lookup %s: %v", id, err)
			}
			known++
			return r
		})
		if known == 0 || known%2 != 0 {
			p.Fatalf("%s: remembered by one of both, or by none", id)
		}
		if known < 2*i {
			return // the last was the last
		}
		p.same("again "+id, func(f *fixture) any { return told(f.append(p.message(id, "stranger", ""))) })
		p.same("conflict "+id, func(f *fixture) any {
			m := p.message(id, "stranger", "")
			m.Digest[0]++
			_, err := f.store.Append(f.ctx, m)
			return errors.Is(err, bridge.ErrConflict)
		})
	}
}

// message makes a message whose id decides its digest, as in fixture.message.
func (p *pair) message(id, to, topic string) *bridge.Message {
	f := p.a
	m := f.message(user(to))
	if to == "" {
		m.To = everybody
	}
	m.ID, m.Topic = id, topic
	m.Event = eventOf(id)
	m.Digest = digestOf(m.Event)
	m.Encode()
	return m
}

// told is what a receipt says of the store, and not of live sessions.
func told(r bridge.Receipt) bridge.Receipt {
	r.Sessions, r.Expires, r.Recipients = 0, r.Expires.UTC(), slices.Clone(r.Recipients)
	for i := range r.Recipients {
		r.Recipients[i].Sessions = 0
	}
	return r
}

// people compares what is known of everybody beside their messages.
func (p *pair) people() {
	p.Helper()
	for _, g := range filledGroups {
		p.same("members of "+g, func(f *fixture) any { return f.members(g) })
	}
	for _, u := range filledUsers {
		p.same("groups of "+u, func(f *fixture) any { return f.groupsOf(u) })
		p.same("delivery logs of "+u, func(f *fixture) any { return f.logs(u) })
		p.same("presence of "+u, func(f *fixture) any { return f.presence(u) })
		for _, token := range []string{"stolen", "late", ""} {
			for _, ago := range []time.Duration{0, 2 * time.Hour, 4 * time.Hour} {
				p.same("what is revoked of "+u, func(f *fixture) any { return f.revoked(u, token, f.clock.Now().Add(-ago)) })
			}
		}
	}
}

// mailboxes compares what everybody reads, from every so many places on.
func (p *pair) mailboxes(when string, step uint64) {
	p.Helper()
	for _, u := range filledUsers {
		head := p.a.all(u, bridge.Position{}).Next()
		for at := uint64(0); at < max(head.Mailbox, head.Broadcast)+2; at += step {
			for _, from := range []bridge.Position{{Mailbox: at}, {Broadcast: at}, {Mailbox: at, Broadcast: at}} {
				what := fmt.Sprintf("%s, %s after %+v", when, u, from)
				p.same(what, func(f *fixture) any { return pageOf(f.all(u, from)) })
				p.same(what+", pending", func(f *fixture) any { return f.pending(u, from) })
			}
		}
		p.same(when+", "+u+" page by page", func(f *fixture) any { return f.leaf(u) })
	}
}

// page is a Page, in each log's own order.
type page struct {
	logs [2][]string
	next bridge.Position
	lost bridge.Lost
	more bool
}

func pageOf(p bridge.Page) page {
	out := page{next: p.Next(), lost: p.Lost(), more: p.More}
	for _, d := range p.Deliveries {
		m := d.Message
		says := fmt.Sprintf("%d: %s from %q of %s about %q at %s until %s not %q as %s with %x",
			d.Mailbox+d.Broadcast, m.ID, m.From, m.Type, m.Topic, m.At.UTC(), m.Expires.UTC(), m.Except, m.Event, m.Digest)
		log := 0
		if d.Broadcast != 0 {
			log = 1
		}
		out.logs[log] = append(out.logs[log], says)
	}
	return out
}

// leaf reads everything in small pages: which messages come together is the
// store's choice, what comes in the end is not.
func (f *fixture) leaf(u string) page {
	f.Helper()
	var all page
	for {
		p := pageOf(f.read(u, all.next, 2, 1<<20))
		all.next, all.more = p.next, p.more
		all.lost.Expired = all.lost.Expired.Max(p.lost.Expired)
		all.lost.Trimmed = all.lost.Trimmed.Max(p.lost.Trimmed)
		for i := range all.logs {
			all.logs[i] = append(all.logs[i], p.logs[i]...)
		}
		if !p.more {
			return all
		}
	}
}

// goOn sends, acks and recalls the same in both.
func (p *pair) goOn() {
	p.Helper()
	send := func(id, to, topic string) {
		p.same("new message "+id+" to "+to, func(f *fixture) any { return told(f.append(p.message(p.name+id, to, topic))) })
	}
	for i, u := range append([]string{""}, filledUsers...) {
		for _, topic := range []string{"", "t", "u", "all", "later"} {
			send(fmt.Sprint(i, topic), u, topic)
		}
		last := fmt.Sprint(i, "last")
		send(last, u, "")
		for _, f := range []*fixture{p.a, p.b} {
			f.recall(p.name + last)
		}
	}
	for _, id := range []string{"msg_1", "msg_3", "msg_40", "msg_50"} {
		for _, f := range []*fixture{p.a, p.b} {
			f.recall(id)
		}
	}
}
