package storetest

import (
	"fmt"
	"slices"
	"time"

	"hookbridge/app/bridge"
)

// fillOutbox has callbacks that wait, are tried later or were given up, and timers.
func (f *fixture) fillOutbox() {
	f.Helper()
	for range 4 {
		f.urgent(user("u1"), time.Hour, long)
	}
	f.urgent(bridge.Target{Users: []string{"v1", "nobody"}}, time.Hour, 3*time.Hour)
	f.ack("u1", bridge.Position{Mailbox: 2})
	f.recall(f.urgent(user("v1"), time.Hour, long).ID)
	f.urgent(user("v2"), brief, brief)
	f.clock.Advance(brief)
	f.urgent(user("v2"), time.Hour, long)
	f.ack("v2", bridge.Position{Mailbox: 2}) // the first was not acked before its end
	for _, c := range TakenBefore(f.clock.Now()) {
		f.post(c)
		f.equal("taken", callbackIDs(f.taken(c.Backend)...), callbackIDs(c))
	}
	f.arm("v1", time.Hour, true, f.online("clinic", "v1"))
	f.arm("u1", time.Hour, true)
	f.post(f.sent("clinic", "u1"), f.sent("clinic", "u1"), f.sent("clinic", "u1"), f.sent("clinic", "v1"), f.sent("phone", "u1"))
	again, hurry := time.Hour, true
	for _, l := range f.lease("clinic", 99) {
		l.Tries = 2
		switch {
		case l.Type == bridge.CallbackSent && l.User == "v1":
			f.giveUp(l)
		case l.Type == bridge.CallbackOnline:
			f.settle(bridge.Settlement{Leased: l, Last: "410"})
		default:
			f.settle(bridge.Settlement{Leased: l, Again: f.clock.Now().Add(again), Hurry: hurry, Last: "503"})
			again += time.Minute
			hurry = !hurry
		}
	}
}

// TakenBefore are messages that Fill has their backends take: of a user with a mailbox, and of
// one who has sent that and was never there.
func TakenBefore(now time.Time) (cs []bridge.Callback) {
	for _, user := range []string{"u1", "u-caller"} {
		cs = append(cs, bridge.SentCallback("phone", user, "", "msg_taken", "call.me", nil, now))
	}
	return cs
}

// outboxes compares what waits, and what becomes of it.
func (p *pair) outboxes() {
	p.Helper()
	for _, f := range []*fixture{p.a, p.b} {
		before := f.backlog("phone")
		f.post(TakenBefore(f.clock.Now())...)
		f.equal("what was taken before and is posted again", f.backlog("phone"), before)
	}
	for step := range 3 {
		for _, b := range Backends {
			what := fmt.Sprintf("%s, %d: ", b.Name, step)
			p.same(what+"backlog", func(f *fixture) any { return f.backlog(b.Name) })
			p.same(what+"dead", func(f *fixture) any { return f.dead(b.Name, "", 99) })
			if step == 0 {
				p.same(what+"hurried", func(f *fixture) any { f.hurry(b.Name); return f.due(b.Name) })
			}
			p.same(what+"due", func(f *fixture) any { return f.due(b.Name) })
			p.same(what+"messages", func(f *fixture) any { return callbackIDs(f.taken(b.Name)...) })
			p.same(what+"sent again", func(f *fixture) any {
				n, err := f.outbox.Redrive(f.ctx, b.Name, nil, step == 1)
				f.must("redrive", err)
				return n
			})
		}
		p.same("timers", func(f *fixture) any {
			ts := f.timers()
			for _, t := range ts {
				if t.Type == bridge.CallbackOffline {
					f.offline(t)
				} else {
					f.fire(t, "clinic")
				}
			}
			return due(ts)
		})
		p.a.clock.Advance(4 * time.Hour)
	}
}

// due tells of the callbacks that are due, and lets them wait on.
func (f *fixture) due(backend string) []string {
	f.Helper()
	list := []string{}
	for _, l := range f.lease(backend, 99) {
		list = append(list, fmt.Sprint(l.ID, l.Type, l.User, l.At.UTC(), l.Tries, l.Since.UTC(), string(l.Body)))
		f.settle(bridge.Settlement{Leased: l, Again: f.clock.Now()})
	}
	slices.Sort(list)
	return list
}
