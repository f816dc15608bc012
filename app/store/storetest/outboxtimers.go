package storetest

import (
	"bytes"
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

// acked are the ids of the callbacks of an ack of u.
func (f *fixture) acked(backend, user string, ms ...*bridge.Message) []string {
	ids := []string{}
	for _, m := range ms {
		ids = append(ids, bridge.AckedCallback(backend, user, "ses_1", m.ID, m.Type, f.clock.Now()).ID)
	}
	return ids
}

var ackCallbacks = []promise{
	{"an ack tells of each message it newly covers, once, to each backend that wants it", func(f *fixture) {
		f.told()
		f.join("v")
		one, two, three := f.send(user("v"), time.Hour), f.send(bridge.Target{Users: []string{"w", "v"}}, time.Hour), f.send(user("v"), time.Hour)
		f.send(user("w"), time.Hour)
		all := []*bridge.Message{f.send(everybody, time.Hour), f.send(everybody, time.Hour)}
		f.ack("v", bridge.Position{Mailbox: 2})
		for _, b := range []string{"clinic", "ward"} {
			f.same(b+" hears", callbackIDs(f.taken(b)...), f.acked(b, "v", one, two))
		}
		f.ack("v", bridge.Position{Mailbox: 1})
		f.ack("v", bridge.Position{Mailbox: 3, Broadcast: 2})
		f.ack("v", bridge.Position{Mailbox: 3, Broadcast: 1})
		f.crash()
		f.ack("v", bridge.Position{Mailbox: 99, Broadcast: 99})
		for _, b := range []string{"clinic", "ward"} {
			f.same(b+" hears", callbackIDs(f.taken(b)...), f.acked(b, "v", three, all[0], all[1]))
		}
		f.equal("what the phone hears", f.backlog("phone"), bridge.Backlog{})
		f.equal("acked", f.join("v").Acked, bridge.Position{Mailbox: 3, Broadcast: 2})
	}},
	{"the callback says who acked what, and when", func(f *fixture) {
		f.told()
		m := f.send(user("u"), time.Hour)
		f.ack("u", bridge.Position{Mailbox: 1})
		want := bridge.AckedCallback("clinic", "u", "ses_1", m.ID, "test", f.clock.Now().UTC())
		got := f.taken("clinic")
		f.equal("callbacks", len(got), 1)
		got[0].At = got[0].At.UTC()
		if !bytes.Equal(got[0].Body, want.Body) {
			f.Errorf("%s, want %s", got[0].Body, want.Body)
		}
		f.equal("callback", got[0], want)
	}},
	{"those whom nobody covers are not told of", func(f *fixture) {
		f.told()
		f.join("w")
		f.send(user("w"), time.Hour)
		f.send(everybody, time.Hour)
		f.ack("w", bridge.Position{Mailbox: 1, Broadcast: 1})
		f.equal("acked", f.join("w").Acked, bridge.Position{Mailbox: 1, Broadcast: 1})
		for _, b := range backends {
			f.equal("backlog of "+b.Name, f.backlog(b.Name), bridge.Backlog{})
		}
	}},
	{"messages to all from before the user came are not told of", func(f *fixture) {
		f.told()
		f.send(everybody, time.Hour)
		f.join("u")
		mine := f.send(everybody, time.Hour)
		f.ack("u", bridge.Position{Broadcast: 2})
		f.equal("told", callbackIDs(f.taken("clinic")...), f.acked("clinic", "u", mine))
	}},
	{"what is gone is not told of as acked", func(f *fixture) {
		f.fresh(Options{Backends: backends, MailboxLimit: limit})
		f.send(user("u"), time.Hour) // is trimmed
		f.recall(f.send(user("u"), time.Hour).ID)
		f.send(user("u"), time.Minute)     // expires
		f.about("t", user("u"), time.Hour) // is replaced
		kept := f.about("t", user("u"), time.Hour)
		f.clock.Advance(2 * time.Minute)
		want := []*bridge.Message{kept}
		for range limit - 1 {
			want = append(want, f.send(user("u"), time.Hour))
		}
		f.ack("u", bridge.Position{Mailbox: 99})
		f.same("told", callbackIDs(f.taken("clinic")...), f.acked("clinic", "u", want...))
	}},
	{"one ack of many messages tells of each", func(f *fixture) {
		f.told()
		var ms []*bridge.Message
		for range 700 {
			m := f.message(user("u"))
			ms = append(ms, m)
		}
		for _, r := range f.store.AppendMany(f.ctx, ms) {
			f.must("append", r.Err)
		}
		f.ack("u", bridge.Position{Mailbox: 700})
		f.same("told", callbackIDs(f.taken("clinic")...), f.acked("clinic", "u", ms...))
		f.equal("acked", f.join("u").Acked.Mailbox, uint64(700))
	}},
	{"a kill leaves an ack with its callbacks, or neither", func(f *fixture) {
		f.told()
		const many = 30
		for range many {
			f.send(user("u"), time.Hour)
		}
		var wg sync.WaitGroup
		store, begun := f.store, make(chan struct{})
		wg.Go(func() {
			for seq := range uint64(many) {
				if seq == many/3 {
					close(begun)
				}
				if err := store.Ack(f.ctx, "u", "ses_1", store.Life(), bridge.Position{Mailbox: seq + 1}); err != nil {
					return // it has been killed
				}
			}
		})
		<-begun
		f.crash()
		wg.Wait()
		acked := f.join("u").Acked.Mailbox
		f.equal("callbacks", uint64(len(f.taken("clinic"))), acked)
		if acked < many/3 {
			f.Errorf("%d acks are left of the %d that had returned", acked, many/3)
		}
	}},
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
		f.told()
		m := f.send(user("u"), time.Minute)
		f.clock.Advance(time.Minute)
		f.ack("u", bridge.Position{Mailbox: 1})
		f.crash()
		ts := f.timers()
		f.equal("due", due(ts), []string{"event.expired u " + m.ID})
		f.equal("fired", f.fire(ts[0], "clinic"), true)
		f.equal("heard", callbackIDs(f.taken("clinic")...), callbackIDs(f.firing(ts[0], "clinic")...))
	}},
	{"what is to all, and what is never stored, has no timers", func(f *fixture) {
		f.told()
		f.join("u")
		f.send(everybody, time.Minute)
		f.passing(user("u"))
		f.clock.Advance(time.Hour)
		f.equal("timers", len(f.timers()), 0)
	}},
	{"an acked, recalled, replaced, trimmed or erased message has no timers, and those that were leased do not fire", func(f *fixture) {
		for what, void := range map[string]func(m *bridge.Message){
			"acked":    func(*bridge.Message) { f.ack("u", bridge.Position{Mailbox: 1}) },
			"recalled": func(m *bridge.Message) { f.recall(m.ID) },
			"replaced": func(*bridge.Message) { f.about("t", user("u"), 100*time.Hour) },
			"trimmed": func(*bridge.Message) {
				for range limit {
					f.send(user("u"), 100*time.Hour)
				}
			},
			"erased": func(*bridge.Message) { f.erase("u") },
		} {
			for _, leased := range []bool{false, true} {
				f.fresh(Options{Backends: backends, MailboxLimit: limit})
				m := f.message(user("u"))
				m.Topic, m.Escalate = "t", time.Minute
				f.append(m)
				var held []bridge.Timer
				if leased {
					f.clock.Advance(time.Minute)
					held = f.timers()
					f.equal("leased before it was "+what, len(held), 1)
				}
				void(m)
				f.taken("clinic")
				for _, t := range held {
					f.equal("fired though "+what, f.fire(t, "clinic"), false)
				}
				f.crash()
				f.clock.Advance(2 * time.Hour) // its end, too
				f.equal("due though "+what, len(f.timers()), 0)
				f.equal("heard though "+what, len(f.taken("clinic")), 0)
			}
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
