package storetest

import (
	"time"

	"hookbridge/app/bridge"
)

// about sends a message of a topic.
func (f *fixture) about(topic string, to bridge.Target, ttl time.Duration) *bridge.Message {
	f.Helper()
	m := f.message(to)
	m.Topic = topic
	m.Expires = f.clock.Now().Add(ttl).UTC()
	f.append(m)
	return m
}

var topics = []promise{
	{"a newer message of a topic takes the place of the older one, and leaves no gap", func(f *fixture) {
		f.join("u")
		f.about("t", user("u"), time.Hour)
		between := f.send(user("u"), time.Hour)
		newer := f.about("t", user("u"), time.Hour)
		p := f.all("u", bridge.Position{})
		f.equal("messages", ids(p.Deliveries), []string{between.ID, newer.ID})
		f.equal("topic read back", p.Deliveries[1].Message.Topic, "t")
		f.equal("lost", p.Lost(), bridge.Lost{})
		f.equal("next", p.Next(), bridge.Position{Mailbox: 3})
		f.equal("pending", f.pending("u", bridge.Position{}), 2)
		f.reopen()
		f.finds("u", bridge.Lost{}, between.ID, newer.ID)
	}},
	{"a message that is acked is not replaced", func(f *fixture) {
		f.join("u")
		older := f.about("t", user("u"), time.Hour)
		f.ack("u", bridge.Position{Mailbox: 1})
		newer := f.about("t", user("u"), time.Hour)
		f.equal("messages", ids(f.all("u", bridge.Position{}).Deliveries), []string{older.ID, newer.ID})
	}},
	{"topics are each mailbox's own, and each topic's", func(f *fixture) {
		a := f.about("t", user("u"), time.Hour)
		b := f.about("other", user("u"), time.Hour)
		c := f.about("t", user("v"), time.Hour)
		f.equal("of u", ids(f.all("u", bridge.Position{}).Deliveries), []string{a.ID, b.ID})
		f.equal("of v", ids(f.all("v", bridge.Position{}).Deliveries), []string{c.ID})
		d := f.about("t", bridge.Target{Users: []string{"u", "w"}}, time.Hour)
		f.equal("of u", ids(f.all("u", bridge.Position{}).Deliveries), []string{b.ID, d.ID})
		f.equal("of v", ids(f.all("v", bridge.Position{}).Deliveries), []string{c.ID})
		e := f.about("t", user("u"), time.Hour)
		f.equal("of u", ids(f.all("u", bridge.Position{}).Deliveries), []string{b.ID, e.ID})
		f.equal("of w", ids(f.all("w", bridge.Position{}).Deliveries), []string{d.ID})
	}},
	{"a replaced message leaves no gap when its own time has run out, too", func(f *fixture) {
		f.join("u")
		f.about("t", user("u"), time.Minute)
		f.about("t", user("u"), time.Minute)
		newest := f.about("t", user("u"), time.Hour)
		f.clock.Advance(10 * time.Minute)
		f.prune()
		f.finds("u", bridge.Lost{}, newest.ID)
	}},
	{"a message that expired beside replaced ones is announced", func(f *fixture) {
		f.join("u")
		f.about("t", user("u"), time.Minute)
		f.send(user("u"), time.Minute) // 2: expires
		f.about("t", user("u"), time.Hour)
		newest := f.about("t", user("u"), time.Hour)
		f.clock.Advance(10 * time.Minute)
		for range 2 {
			f.finds("u", bridge.Lost{Expired: bridge.Position{Mailbox: 2}}, newest.ID)
			f.equal("lost behind it", f.all("u", bridge.Position{Mailbox: 2}).Lost(), bridge.Lost{})
			f.prune()
			f.reopen()
		}
	}},
	{"what expired before the first replacement is still announced", func(f *fixture) {
		f.join("u")
		f.send(user("u"), time.Minute)
		f.clock.Advance(10 * time.Minute)
		f.prune()
		f.about("t", user("u"), time.Hour)
		newest := f.about("t", user("u"), time.Hour)
		f.finds("u", bridge.Lost{Expired: bridge.Position{Mailbox: 1}}, newest.ID)
	}},
	{"the newest of a topic that has expired is not replaced but lost", func(f *fixture) {
		f.join("u")
		f.about("t", user("u"), time.Minute)
		f.clock.Advance(10 * time.Minute)
		newest := f.about("t", user("u"), time.Hour)
		f.finds("u", bridge.Lost{Expired: bridge.Position{Mailbox: 1}}, newest.ID)
	}},
	{"a message to all of a topic takes the place of the older one for everybody", func(f *fixture) {
		f.join("u")
		f.about("t", everybody, time.Hour)
		f.ack("u", bridge.Position{Broadcast: 1})
		newer := f.about("t", everybody, time.Hour)
		f.finds("u", bridge.Lost{}, newer.ID)
	}},
	{"replaced messages take no room in a full mailbox", func(f *fixture) {
		f.tight()
		f.join("u")
		kept := f.send(user("u"), time.Hour)
		var last *bridge.Message
		for range 3 * limit {
			last = f.about("t", user("u"), time.Hour)
		}
		f.finds("u", bridge.Lost{}, kept.ID, last.ID)
		f.reopen()
		next := f.send(user("u"), time.Hour)
		f.equal("after a restart", ids(f.all("u", bridge.Position{}).Deliveries), []string{kept.ID, last.ID, next.ID})
	}},
	{"sequences go on when the newest message is replaced and expires", func(f *fixture) {
		f.about("t", user("u"), time.Hour)
		f.about("t", user("u"), time.Minute)
		f.clock.Advance(10 * time.Minute)
		f.prune()
		f.reopen()
		f.equal("place", f.append(f.message(user("u"))).Recipients[0].Seq, uint64(3))
	}},
}

// prune gives the store the time to tidy up, however it does: another message
// of another user passes through it for a while.
func (f *fixture) prune() {
	f.Helper()
	for range 3 {
		f.send(user("somebody else"), time.Hour)
	}
	f.reopen()
}
