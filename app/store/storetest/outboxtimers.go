package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

func (f *fixture) timers() []bridge.Timer {
	f.Helper()
	ts, err := f.outbox.LeaseTimers(f.ctx, 100)
	f.must("lease timers", err)
	return ts
}

// fire ends a timer, with a callback for each of some backends.
func (f *fixture) fire(t bridge.Timer, to ...string) bool {
	f.Helper()
	fired, err := f.outbox.Fire(f.ctx, t, f.firing(t, to...)...)
	f.must("fire", err)
	return fired
}

func (f *fixture) firing(t bridge.Timer, to ...string) (cs []bridge.Callback) {
	for _, b := range to {
		c := bridge.ExpiredCallback(b, t, f.clock.Now().UTC())
		if t.Type == bridge.CallbackUnacked {
			c = bridge.UnackedCallback(b, t, bridge.StatusQueued, f.clock.Now().UTC())
		}
		cs = append(cs, c)
	}
	return cs
}

// urgent sends a message that escalates.
func (f *fixture) urgent(to bridge.Target, escalate, ttl time.Duration) *bridge.Message {
	f.Helper()
	m := f.message(to)
	m.Escalate, m.Expires = escalate, f.clock.Now().Add(ttl).UTC()
	f.append(m)
	return m
}

// due lists which timers are due, as type, user and event.
func due(ts []bridge.Timer) []string {
	list := []string{}
	for _, t := range ts {
		list = append(list, t.Type+" "+t.User+" "+t.EventID)
	}
	slices.Sort(list)
	return list
}

var timers = []promise{
	{"what nobody acks in time escalates once, to those who cover the user", func(f *fixture) {
		f.told()
		m := f.urgent(user("u"), 2*time.Minute, time.Hour)
		f.clock.Advance(2*time.Minute - time.Second)
		f.equal("before its time", len(f.timers()), 0)
		f.crash()
		f.clock.Advance(time.Second)
		ts := f.timers()
		f.equal("due", len(ts), 1)
		t := ts[0]
		f.equal("timer", []any{t.Type, t.User, t.EventID, t.EventType, t.After, t.Due.Equal(f.clock.Now())},
			[]any{bridge.CallbackUnacked, "u", m.ID, "test", 2 * time.Minute, true})
		f.equal("leased to another", len(f.timers()), 0)
		f.clock.Advance(bridge.LeaseFor)
		again := f.timers()
		f.equal("once the lease has ended", due(again), due(ts))
		f.equal("fired", f.fire(again[0], "clinic", "phone"), true)
		f.equal("fired by who was too late", f.fire(t, "clinic", "phone"), false)
		f.crash()
		f.clock.Advance(bridge.LeaseFor)
		f.equal("fired after a kill", f.fire(t, "clinic", "phone"), false)
		f.equal("due", len(f.timers()), 0)
		for _, b := range []string{"clinic", "phone"} {
			f.equal("heard by "+b, callbackIDs(f.taken(b)...), callbackIDs(f.firing(t, b)...))
		}
	}},
	{"of many who lease at once each timer has one holder", func(f *fixture) {
		f.told()
		for range 30 {
			f.urgent(user("w"), time.Minute, time.Hour)
		}
		f.clock.Advance(time.Minute)
		var mu sync.Mutex
		var wg sync.WaitGroup
		holders := map[string]int{}
		for range 6 {
			wg.Go(func() {
				for {
					ts, err := f.outbox.LeaseTimers(f.ctx, 3)
					if err != nil {
						f.Errorf("lease timers: %v", err)
					}
					if len(ts) == 0 {
						return
					}
					mu.Lock()
					for _, t := range ts {
						holders[t.EventID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		f.equal("timers", len(holders), 30)
		for id, n := range holders {
			f.equal("holders of "+id, n, 1)
		}
	}},
	{"each recipient has a timer of its own", func(f *fixture) {
		f.told()
		f.member("g", "v1", true)
		f.member("g", "w1", true)
		several := f.urgent(bridge.Target{Users: []string{"u1", "w2"}}, time.Minute, time.Hour)
		group := f.urgent(bridge.Target{Group: "g"}, time.Minute, time.Hour)
		f.ack("w1", bridge.Position{Mailbox: 1})
		f.clock.Advance(time.Minute)
		f.equal("due", due(f.timers()), []string{
			"event.unacked u1 " + several.ID, "event.unacked v1 " + group.ID, "event.unacked w2 " + several.ID,
		})
	}},
	{"the end of what nobody acked is told to those who want it, also when the message has gone", func(f *fixture) {
		f.told()
		m := f.send(bridge.Target{Users: []string{"u", "w"}}, time.Hour) // of w nobody wants to hear
		f.clock.Advance(time.Hour - time.Second)
		f.equal("before its end", len(f.timers()), 0)
		f.clock.Advance(time.Second)
		f.prune()
		f.clock.Advance(30 * time.Second)
		ts := f.timers()
		f.equal("due", due(ts), []string{"event.expired u " + m.ID})
		f.equal("fired", f.fire(ts[0], "clinic"), true)
		f.crash()
		f.equal("heard", callbackIDs(f.taken("clinic")...), callbackIDs(f.firing(ts[0], "clinic")...))
	}},
	{"an ack after its end does not undo that a message has expired", func(f *fixture) {
		for _, leased := range []bool{false, true} {
			f.told()
			m := f.send(user("u"), time.Minute)
			f.clock.Advance(time.Minute)
			var ts []bridge.Timer
			if leased {
				ts = f.timers()
			}
			f.ack("u", bridge.Position{Mailbox: 1})
			if !leased {
				f.crash()
				ts = f.timers()
			}
			f.equal("due", due(ts), []string{"event.expired u " + m.ID})
			f.equal("fired", f.fire(ts[0], "clinic"), true)
			f.equal("heard", callbackIDs(f.taken("clinic")...), callbackIDs(f.firing(ts[0], "clinic")...))
		}
	}},
	{"an ack of a later message does not undo that one escalates which had come to its end", func(f *fixture) {
		// Of u a backend hears everything, of e the end, and of w the escalation alone.
		for _, u := range []string{"u", "e", "w"} {
			for _, leased := range []bool{false, true} {
				f.told()
				acked, m := f.urgent(user(u), time.Minute, time.Minute), f.urgent(user(u), time.Minute, time.Minute)
				f.ack(u, bridge.Position{Mailbox: 1})
				later := f.urgent(user(u), time.Minute, time.Hour)
				f.clock.Advance(time.Minute)
				var ts []bridge.Timer
				if leased {
					ts = f.timers()
					f.ok("ack", f.store.AckLater(f.ctx, u, "ses_1", f.store.Life(), bridge.Position{Mailbox: 2}))
					f.equal("acked", f.join(u).Acked.Mailbox, uint64(2))
				}
				f.ack(u, bridge.Position{Mailbox: 3})
				if !leased {
					f.prune()
					f.crash()
					ts = f.timers()
				}
				fired := []string{}
				for _, t := range ts {
					if t.Type == bridge.CallbackUnacked && f.fire(t, "phone") {
						fired = append(fired, t.EventID)
					}
				}
				f.equal("fired for "+u+", of "+acked.ID+", "+m.ID+" and "+later.ID, fired, []string{m.ID})
				f.clock.Advance(bridge.LeaseFor)
				f.equal("due again", slices.ContainsFunc(f.timers(), func(t bridge.Timer) bool { return t.Type == bridge.CallbackUnacked }), false)
			}
		}
	}},
	{"an ack that came before the end, and is written after it, is one", func(f *fixture) {
		f.told()
		f.urgent(user("w"), time.Minute, time.Minute)
		f.ok("ack", f.store.AckLater(f.ctx, "w", "ses_1", f.store.Life(), bridge.Position{Mailbox: 1}))
		f.equal("acked", f.join("w").Acked.Mailbox, uint64(1))
		f.clock.Advance(time.Minute)
		f.equal("due", len(f.timers()), 0)
	}},
	{"what is to all, and what is never stored, has no timers", func(f *fixture) {
		f.told()
		f.join("u")
		f.send(everybody, time.Minute)
		f.passing(user("u"))
		f.clock.Advance(time.Hour)
		f.equal("timers", len(f.timers()), 0)
	}},
	voiding("acked", func(f *fixture, _ *bridge.Message) { f.ack("u", bridge.Position{Mailbox: 1}) }),
	voiding("recalled", func(f *fixture, m *bridge.Message) { f.recall(m.ID) }),
	voiding("replaced", func(f *fixture, _ *bridge.Message) { f.about("t", user("u"), 100*time.Hour) }),
	voiding("erased", func(f *fixture, _ *bridge.Message) { f.erase("u") }),
	{"what was pushed out of a full mailbox escalates, because nobody has acked it, and does not expire", func(f *fixture) {
		for _, leased := range []bool{false, true} {
			f.fresh(Options{Backends: Backends, MailboxLimit: limit})
			acked, recalled := f.urgent(user("u"), time.Minute, time.Hour), f.urgent(user("u"), time.Minute, time.Hour)
			m := f.urgent(user("u"), time.Minute, time.Hour)
			f.ack("u", bridge.Position{Mailbox: 1})
			f.taken("clinic")
			var held []bridge.Timer
			if leased {
				f.clock.Advance(time.Minute)
				held = f.timers()
			}
			for range limit + 3 {
				f.send(user("u"), 100*time.Hour)
			}
			f.recall(recalled.ID)
			if !leased {
				f.crash()
				f.clock.Advance(time.Minute)
				held = f.timers()
			}
			fired := []string{}
			for _, t := range held {
				if f.fire(t, "clinic") {
					fired = append(fired, t.EventID)
				}
			}
			f.equal("fired, of "+acked.ID+" (acked), "+recalled.ID+" (recalled) and "+m.ID, fired, []string{m.ID})
			f.clock.Advance(2 * time.Hour)
			f.equal("due at its end", len(f.timers()), 0)
		}
	}},
	{"what expired in a full mailbox is told as expired, whatever is pushed out afterwards", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MailboxLimit: limit})
		m := f.send(user("u"), time.Minute)
		for range limit - 1 {
			f.send(user("u"), 100*time.Hour)
		}
		f.clock.Advance(time.Minute)
		for range 3 {
			f.send(user("u"), 100*time.Hour)
		}
		ts := f.timers()
		f.equal("due", due(ts), []string{"event.expired u " + m.ID})
		f.send(user("u"), 100*time.Hour)
		f.equal("fired", f.fire(ts[0], "clinic"), true)
	}},
	{"the escalations of a mailbox that many messages are pushed out of are bounded", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MailboxLimit: limit})
		for range 12 * limit {
			f.urgent(user("u"), time.Minute, time.Hour)
		}
		f.clock.Advance(time.Minute)
		n := 0
		for ts := f.timers(); len(ts) > 0; ts = f.timers() {
			n += len(ts)
		}
		if n < limit || n > 10*limit {
			f.Errorf("%d are due", n)
		}
	}},
	{"a message that was recalled after its end has not expired", func(f *fixture) {
		f.told()
		m := f.send(user("u"), time.Minute)
		f.clock.Advance(10 * time.Minute)
		f.prune()
		f.recall(m.ID)
		f.equal("due", len(f.timers()), 0)
	}},
	{"an ack and a timer at the same moment exclude each other", func(f *fixture) {
		f.told()
		const rounds = 60
		for i := range rounds {
			u := fmt.Sprint("v", i) // clinic hears of acks, and so the ack is durable when it returns
			if i%2 == 0 {
				u = fmt.Sprint("x", i) // nobody does
			}
			f.urgent(user(u), time.Minute, time.Hour)
		}
		f.clock.Advance(time.Minute)
		ts := f.timers()
		f.equal("due", len(ts), rounds)
		for _, t := range ts {
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := f.store.Ack(f.ctx, t.User, "ses_1", f.store.Life(), bridge.Position{Mailbox: 1}); err != nil {
					f.Errorf("ack: %v", err)
				}
			})
			fired, err := f.outbox.Fire(f.ctx, t, f.firing(t, "phone")...)
			f.must("fire", err)
			wg.Wait()
			f.equal("fired", len(f.taken("phone")) == 1, fired)
			f.equal("fired after the ack", f.fire(t, "phone"), false)
			f.equal("acked", f.join(t.User).Acked.Mailbox, uint64(1))
			f.equal("heard after the ack", len(f.taken("phone")), 0)
		}
		f.equal("acks told of", len(f.taken("clinic")), rounds/2)
	}},
	{"an ack that has returned is never followed by a timer, whatever is killed", func(f *fixture) {
		f.told()
		f.urgent(user("x"), time.Minute, time.Hour)
		f.ack("x", bridge.Position{Mailbox: 1})
		f.clock.Advance(time.Minute)
		f.equal("due", len(f.timers()), 0)
		f.crash()
		f.equal("acked, as nothing escalates", f.join("x").Acked.Mailbox, uint64(1))
		f.clock.Advance(bridge.LeaseFor)
		f.equal("due", len(f.timers()), 0)
	}},
	{"a repeated message has its timers once", func(f *fixture) {
		f.told()
		m := f.urgent(user("u"), time.Minute, time.Hour)
		f.append(m)
		f.clock.Advance(time.Minute)
		ts := f.timers()
		f.equal("due", len(ts), 1)
		f.fire(ts[0], "clinic")
		f.append(m)
		f.clock.Advance(time.Minute)
		f.equal("due", len(f.timers()), 0)
	}},
}

// voiding is the promise that what is done to a message makes its timers void.
func voiding(what string, void func(f *fixture, m *bridge.Message)) promise {
	return promise{"a message that was " + what + " has no timers, and those that were leased do not fire", func(f *fixture) {
		for _, leased := range []bool{false, true} {
			f.fresh(Options{Backends: Backends, MailboxLimit: limit})
			m := f.message(user("u"))
			m.Topic, m.Escalate = "t", time.Minute
			f.append(m)
			var held []bridge.Timer
			if leased {
				f.clock.Advance(time.Minute)
				held = f.timers()
				f.equal("leased", len(held), 1)
			}
			void(f, m)
			f.taken("clinic")
			for _, t := range held {
				f.equal("fired", f.fire(t, "clinic"), false)
			}
			f.crash()
			f.clock.Advance(2 * time.Hour) // its end, too
			f.equal("due", len(f.timers()), 0)
			f.equal("heard", len(f.taken("clinic")), 0)
		}
	}}
}
