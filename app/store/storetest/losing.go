package storetest

import (
	"time"

	"hookbridge/app/bridge"
)

var losing = []promise{
	{"an expired message is not read, and its place is announced as expired", func(f *fixture) {
		f.join("u")
		f.send(user("u"), time.Minute)
		keep := f.send(user("u"), time.Hour)
		f.send(user("u"), time.Minute)
		last := f.send(user("u"), time.Hour)
		f.send(everybody, time.Minute)
		f.clock.Advance(2 * time.Minute)
		for range 2 {
			p := f.all("u", bridge.Position{})
			f.equal("read", ids(p.Deliveries), []string{keep.ID, last.ID})
			f.equal("lost", p.Lost(), bridge.Lost{Expired: bridge.Position{Mailbox: 3, Broadcast: 1}})
			f.equal("next", p.Next(), bridge.Position{Mailbox: 4, Broadcast: 1})
			p = f.all("u", bridge.Position{Mailbox: 3, Broadcast: 1})
			f.equal("read on", ids(p.Deliveries), []string{last.ID})
			f.equal("lost further on", p.Lost(), bridge.Lost{})
			f.reopen()
		}
	}},
	{"a page announces what is gone within it and nothing that comes after", func(f *fixture) {
		for _, ttl := range []time.Duration{time.Hour, time.Minute, time.Hour, time.Hour, time.Minute, time.Hour} {
			f.send(user("u"), ttl)
		}
		f.clock.Advance(2 * time.Minute)
		p := f.read("u", bridge.Position{}, 2, 1<<20)
		f.equal("first page", []any{len(p.Deliveries), p.Lost().Expired.Mailbox, p.More}, []any{2, 2, true})
		p = f.read("u", bridge.Position{Mailbox: 2}, 1, 1<<20)
		f.equal("no loss between", []any{len(p.Deliveries), p.Lost()}, []any{1, bridge.Lost{}})
		p = f.read("u", bridge.Position{Mailbox: 4}, 5, 1<<20)
		f.equal("the rest", []any{len(p.Deliveries), p.Lost().Expired.Mailbox, p.More}, []any{1, 5, false})
	}},
	{"a mailbox whose newest messages expired keeps its sequence, after a restart as well", func(f *fixture) {
		for range 3 {
			f.send(user("u"), time.Minute)
			f.send(everybody, time.Minute)
		}
		f.clock.Advance(time.Hour)
		f.reopen()
		p := f.all("u", bridge.Position{})
		f.equal("page", []any{len(p.Deliveries), p.Lost().Expired.Mailbox, p.Next().Mailbox}, []any{0, 3, 3})
		m := f.message(user("u"))
		f.equal("place", f.append(m).Recipients[0].Seq, 4)
		f.equal("place", f.append(f.message(everybody)).Broadcast, 4)
		f.equal("head", f.join("u").Head, bridge.Position{Mailbox: 4, Broadcast: 4})
	}},
	{"an id is remembered after its message has expired", func(f *fixture) {
		f.join("u")
		m := f.send(user("u"), time.Minute)
		f.clock.Advance(6 * 24 * time.Hour)
		f.reopen()
		r := f.append(m)
		f.equal("receipt", []any{r.Duplicate, r.Recipients, r.Expires.Equal(m.Expires)}, []any{true, []bridge.Recipient{{User: "u"}}, true})
		f.equal("heard", len(f.hub.of("u")), 1)
	}},
	{"a full mailbox loses its oldest messages, announced as trimmed", func(f *fixture) {
		f.tight()
		var sent []*bridge.Message
		for range limit + 3 {
			sent = append(sent, f.send(user("u"), time.Hour))
		}
		f.send(user("other"), time.Hour)
		for range 2 {
			p := f.all("u", bridge.Position{})
			f.equal("messages", []any{len(p.Deliveries), p.Deliveries[0].Mailbox}, []any{limit, 4})
			f.equal("lost", p.Lost(), bridge.Lost{Trimmed: bridge.Position{Mailbox: 3}})
			f.equal("lost further on", f.all("u", bridge.Position{Mailbox: 3}).Lost(), bridge.Lost{})
			f.equal("pending", f.pending("u", bridge.Position{}), limit)
			f.equal("other mailbox", len(f.all("other", bridge.Position{}).Deliveries), 1)
			f.equal("place of a trimmed message", f.append(sent[2]).Recipients, []bridge.Recipient{{User: "u"}})
			f.equal("place of the oldest left", f.append(sent[3]).Recipients, []bridge.Recipient{{User: "u", Seq: 4}})
			f.reopen()
		}
	}},
	{"what had expired before a full mailbox was trimmed is announced as trimmed with the rest", func(f *fixture) {
		f.tight()
		f.send(user("u"), time.Minute)
		f.clock.Advance(2 * time.Minute)
		for range limit + 1 {
			f.send(user("u"), time.Hour)
		}
		for range 2 {
			p := f.all("u", bridge.Position{})
			f.equal("lost", p.Lost(), bridge.Lost{Trimmed: bridge.Position{Mailbox: 2}})
			f.equal("messages", []any{len(p.Deliveries), p.Deliveries[0].Mailbox}, []any{limit, 3})
			f.reopen()
		}
	}},
	{"a message to several is trimmed from a full mailbox only", func(f *fixture) {
		f.tight()
		m := f.send(bridge.Target{Users: []string{"full", "empty"}}, time.Hour)
		for range limit {
			f.send(user("full"), time.Hour)
		}
		f.equal("full", f.all("full", bridge.Position{}).Lost().Trimmed.Mailbox, 1)
		f.equal("empty", ids(f.all("empty", bridge.Position{}).Deliveries), []string{m.ID})
		f.equal("duplicate", f.append(m).Recipients, []bridge.Recipient{{User: "full"}, {User: "empty", Seq: 1}})
	}},
	{"expired messages take no room in a mailbox", func(f *fixture) {
		f.tight()
		old := f.send(user("u"), time.Hour)
		for range limit - 1 {
			f.send(user("u"), time.Minute)
		}
		f.clock.Advance(2 * time.Minute)
		var want []string
		want = append(want, old.ID)
		for range limit - 1 {
			want = append(want, f.send(user("u"), time.Hour).ID)
		}
		p := f.all("u", bridge.Position{})
		f.equal("read", ids(p.Deliveries), want)
		f.equal("lost", p.Lost(), bridge.Lost{Expired: bridge.Position{Mailbox: limit}})
		f.send(user("u"), time.Hour)
		p = f.all("u", bridge.Position{})
		f.equal("one more", []any{len(p.Deliveries), p.Lost().Trimmed.Mailbox}, []any{limit, 1})
	}},
}
