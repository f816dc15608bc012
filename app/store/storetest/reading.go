package storetest

import (
	"slices"
	"time"

	"hookbridge/app/bridge"
)

var reading = []promise{
	{"pages end at the count, the next one goes on, and the last one says so", func(f *fixture) {
		f.join("u")
		for i := range 25 {
			if i%5 == 4 {
				f.send(everybody, time.Hour)
			} else {
				f.send(user("u"), time.Hour)
			}
		}
		var at bridge.Position
		for page, want := range []int{10, 10, 5} {
			p := f.read("u", at, 10, 1<<20)
			f.equal("messages", len(p.Deliveries), want)
			f.equal("more", p.More, page < 2)
			for _, d := range p.Deliveries {
				if d.Mailbox != 0 {
					f.equal("sequence", d.Mailbox, at.Mailbox+1)
					at.Mailbox++
				} else {
					f.equal("sequence", d.Broadcast, at.Broadcast+1)
					at.Broadcast++
				}
			}
			f.equal("next", p.Next(), at)
		}
		f.equal("head", at, bridge.Position{Mailbox: 20, Broadcast: 5})
		p := f.read("u", at, 10, 1<<20)
		f.equal("at the head", []any{len(p.Deliveries), p.More, p.Next()}, []any{0, false, at})
	}},
	{"pages end at about the bytes, and hold one message at least", func(f *fixture) {
		size := len(f.send(user("u"), time.Hour).Event)
		for range 9 {
			f.send(user("u"), time.Hour)
		}
		p := f.read("u", bridge.Position{}, 100, 1)
		f.equal("one at least", []any{len(p.Deliveries), p.More, p.Next().Mailbox}, []any{1, true, 1})
		p = f.read("u", bridge.Position{}, 100, 4*(size+8))
		if n := len(p.Deliveries); n < 2 || n > 6 || !p.More {
			f.Fatalf("room for about 4: got %d, more %v", n, p.More)
		}
		f.equal("read to the end of it", p.Next().Mailbox, len(p.Deliveries))
	}},
	{"a join that asks for a page gets what Read returns from there, and whoever missed nothing gets one", func(f *fixture) {
		f.send(everybody, time.Hour) // before the user is seen
		given := func(when string, r bridge.ReadAhead, after bridge.Position) *bridge.Page {
			f.Helper()
			r.MaxCount, r.MaxBytes = 6, 1<<20
			m := bridge.Member{User: "u", Session: "ses_1", Transport: "websocket", Since: f.clock.Now(), Token: "none", Issued: f.clock.Now(), Reads: &r}
			s := must(f.table.Join(f.ctx, f.live, m))(f, "join")
			if s.Page == nil {
				return nil
			}
			f.equal(when+": it begins after", s.PageAfter, after)
			want := f.read("u", after, 6, 1<<20)
			f.equal(when+": messages", ids(s.Page.Deliveries), ids(want.Deliveries))
			f.equal(when+": next", s.Page.Next(), want.Next())
			f.equal(when+": lost", s.Page.Lost(), want.Lost())
			f.equal(when+": more", s.Page.More, want.More)
			return s.Page
		}
		has := func(when string, p *bridge.Page) {
			f.Helper()
			if p == nil {
				f.Errorf("%s: no page", when)
			}
		}
		fresh := bridge.ReadAhead{Fresh: true}
		after := func(m, b uint64) bridge.ReadAhead {
			return bridge.ReadAhead{After: bridge.Position{Mailbox: m, Broadcast: b}, Life: f.store.Life()}
		}
		has("never seen", given("never seen", fresh, bridge.Position{Broadcast: 1}))
		first := f.send(user("u"), time.Hour)
		f.send(bridge.Target{Users: []string{"u", "v"}}, time.Hour)
		f.send(everybody, time.Hour)
		f.send(user("u"), time.Minute)
		last := f.send(user("u"), time.Hour)
		given("all missed", fresh, bridge.Position{Broadcast: 1})
		given("from a cursor", after(1, 0), bridge.Position{Mailbox: 1, Broadcast: 1})
		f.clock.Advance(2 * time.Minute)
		f.ok("recall", f.store.Recall(f.ctx, first.ID))
		given("some gone", after(0, 1), bridge.Position{Broadcast: 1})
		f.ok("recall", f.store.Recall(f.ctx, last.ID))
		f.ack("u", bridge.Position{Mailbox: 2, Broadcast: 2})
		given("the acked are passed", fresh, bridge.Position{Mailbox: 2, Broadcast: 2})
		has("at the head", given("at the head", after(4, 2), bridge.Position{Mailbox: 4, Broadcast: 2}))
		for range 8 {
			f.send(user("u"), time.Hour)
		}
		given("more than a page", after(3, 2), bridge.Position{Mailbox: 3, Broadcast: 2})
		if p := given("another life", bridge.ReadAhead{Life: "another", After: bridge.Position{Mailbox: 12, Broadcast: 2}}, bridge.Position{}); p != nil {
			f.Errorf("another life: a page")
		}
	}},
	{"messages to all from before a user was seen are passed over, however many there are", func(f *fixture) {
		for range 25 {
			f.send(everybody, time.Hour)
		}
		f.join("late")
		own := f.send(user("late"), time.Hour)
		theirs := f.send(everybody, time.Hour)
		var got []string
		at := bridge.Position{}
		for pages := 0; ; pages++ {
			p := f.read("late", at, 10, 1<<20)
			got, at = append(got, ids(p.Deliveries)...), p.Next()
			if !p.More {
				break
			}
			if pages > 10 {
				f.Fatalf("reading goes on and on at %+v", at)
			}
		}
		slices.Sort(got)
		want := []string{own.ID, theirs.ID}
		slices.Sort(want)
		f.equal("messages", got, want)
		f.equal("next", at, bridge.Position{Mailbox: 1, Broadcast: 26})
	}},
	{"a place beyond the head reads as empty", func(f *fixture) {
		f.join("u")
		f.send(user("u"), time.Hour)
		f.send(everybody, time.Hour)
		beyond := bridge.Position{Mailbox: 99, Broadcast: 99}
		p := f.read("u", beyond, 10, 1000)
		f.equal("page", []any{len(p.Deliveries), p.More, p.Lost()}, []any{0, false, bridge.Lost{}})
		f.equal("pending", f.pending("u", beyond), 0)
		p = f.all("nobody", bridge.Position{})
		f.equal("somebody unknown", []any{len(p.Deliveries), p.Lost()}, []any{0, bridge.Lost{}})
	}},
	{"pending counts what is left after a place, and nothing that has expired", func(f *fixture) {
		f.join("u")
		for range 3 {
			f.send(user("u"), time.Hour)
			f.send(everybody, time.Minute)
		}
		f.equal("pending", f.pending("u", bridge.Position{}), 6)
		f.equal("pending", f.pending("u", bridge.Position{Mailbox: 2, Broadcast: 1}), 3)
		f.clock.Advance(2 * time.Minute)
		f.equal("pending", f.pending("u", bridge.Position{}), 3)
	}},
	{"what is pending is listed by its places", func(f *fixture) {
		f.send(everybody, time.Hour)
		f.join("u")
		for _, ttl := range []time.Duration{time.Hour, time.Hour, time.Minute, time.Hour, time.Hour, time.Minute} {
			f.send(user("u"), ttl)
			f.send(everybody, ttl)
		}
		f.recall(f.send(user("u"), time.Hour).ID)
		f.send(user("u"), time.Hour)
		f.clock.Advance(2 * time.Minute)
		p, err := f.store.Pending(f.ctx, "u", bridge.Position{Mailbox: 1})
		f.equal("error", err, nil)
		f.equal("places", p, bridge.Pending{Mailbox: []bridge.Range{{First: 2, Last: 2}, {First: 4, Last: 5}, {First: 8, Last: 8}},
			Broadcast: []bridge.Range{{First: 2, Last: 3}, {First: 5, Last: 6}}})
	}},
	{"a message is readable before the Hub hears of it", func(f *fixture) {
		f.hub.onAny = func(h heard) {
			p, err := f.store.Read(f.ctx, h.user, f.store.Life(), bridge.Position{Mailbox: h.Mailbox - 1}, 1, 1)
			if err != nil || len(p.Deliveries) != 1 || p.Deliveries[0].Message.ID != h.Message.ID {
				f.Errorf("heard of %s and read %v, %v", h.Message.ID, ids(p.Deliveries), err)
			}
		}
		f.join("u")
		for range 20 {
			f.send(user("u"), time.Hour)
		}
		f.equal("heard", len(f.hub.of("u")), 20)
	}},
}
