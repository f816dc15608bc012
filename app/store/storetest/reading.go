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
