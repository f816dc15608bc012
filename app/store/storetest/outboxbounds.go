package storetest

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"hookbridge/app/bridge"
)

var bounding = []promise{
	{"where too many wait the oldest user.* go, then the oldest event.*, and never a message", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MaxCallbacks: 4})
		f.send(user("u"), time.Hour)
		f.send(user("u"), time.Hour)
		f.ack("u", bridge.Position{Mailbox: 1})
		f.ack("u", bridge.Position{Mailbox: 2})
		f.clock.Advance(time.Second)
		f.post(f.online("clinic", "v1"))
		f.clock.Advance(time.Second)
		f.post(f.online("clinic", "v2"))
		types := func() map[string]int {
			n := map[string]int{}
			for _, l := range f.lease("clinic", 99) {
				n[l.Type]++
				f.settle(bridge.Settlement{Leased: l, Again: f.clock.Now()})
			}
			return n
		}
		for i, want := range []map[string]int{
			{bridge.CallbackAcked: 2, bridge.CallbackOnline: 1, bridge.CallbackSent: 1},
			{bridge.CallbackAcked: 2, bridge.CallbackSent: 2},
			{bridge.CallbackAcked: 1, bridge.CallbackSent: 3},
			{bridge.CallbackSent: 4},
		} {
			f.post(f.sent("clinic", fmt.Sprint("u", i)))
			if want[bridge.CallbackOnline] == 0 { // a new one goes before any event
				f.post(f.online("clinic", "v3"))
			}
			if got := types(); !maps.Equal(got, want) {
				f.Fatalf("after %d messages there are %v, want %v", i+1, got, want)
			}
			f.equal("of the first", f.ofUser("v1"), 0)
			f.equal("of the second", f.ofUser("v2"), want[bridge.CallbackOnline])
		}
		for range 2 {
			if err := f.outbox.Post(f.ctx, f.sent("clinic", "u")); !errors.Is(err, bridge.ErrOutboxFull) {
				f.Errorf("a message too many: %v", err)
			}
			f.post(f.online("clinic", "u"))
			f.send(user("u"), time.Hour)
			f.ack("u", bridge.Position{Mailbox: 99})
			f.equal("backlog", f.backlog("clinic").Waiting, 4)
			f.crash()
		}
		f.post(f.sent("phone", "u"))
		f.equal("the other's", f.backlog("phone").Waiting, 1)
	}},
	{"bytes are bounded as well", func(f *fixture) {
		size := int64(len(f.sent("clinic", "u").Body))
		f.fresh(Options{Backends: Backends, MaxCallbackBytes: 3*size + size/2})
		for range 4 {
			f.post(f.online("clinic", "u"))
		}
		f.post(f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "v"))
		f.equal("waiting", f.backlog("clinic").Waiting, 3)
		if err := f.outbox.Post(f.ctx, f.sent("clinic", "u")); !errors.Is(err, bridge.ErrOutboxFull) {
			f.Errorf("a message too many: %v", err)
		}
		if b := f.backlog("clinic").Bytes; b > 3*size+size/2 {
			f.Errorf("%d bytes wait", b)
		}
	}},
	{"a message that has no room leaves what may go where it is", func(f *fixture) {
		size, small := int64(len(f.sent("clinic", "u").Body)), int64(len(f.online("clinic", "u").Body))
		f.fresh(Options{Backends: Backends, MaxCallbackBytes: 3*size + small + 20})
		f.post(f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "v"), f.online("clinic", "u"))
		for range 3 {
			if err := f.outbox.Post(f.ctx, f.sent("clinic", "v")); !errors.Is(err, bridge.ErrOutboxFull) {
				f.Errorf("a message too many: %v", err)
			}
		}
		f.equal("waiting", f.backlog("clinic").Waiting, 4)
		f.equal("taken", len(f.taken("clinic")), 4)
		// What is taken makes room.
		f.post(f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "v"))
		f.equal("waiting", f.backlog("clinic").Waiting, 3)
	}},
	{"a message that is known needs no room, whether it waits, was given up or was taken", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MaxCallbacks: 3})
		taken, dead, waits, other := f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "v")
		f.post(taken)
		f.taken("clinic")
		f.post(dead)
		f.giveUp(f.lease("clinic", 1)...)
		f.post(f.online("clinic", "u"))
		f.post(waits, other, waits, other)
		for range 2 {
			f.post(taken)
			f.post(taken, dead, other, waits)
			f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{3, 1})
			f.crash()
		}
		f.post(waits, f.sent("clinic", "u"))
		for range 2 {
			f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{3, 1})
			f.post(taken)
			f.post(waits, other, dead, taken)
			if err := f.outbox.Post(f.ctx, waits, f.sent("clinic", "u")); !errors.Is(err, bridge.ErrOutboxFull) {
				f.Errorf("a message too many: %v", err)
			}
			f.crash()
		}
		for _, l := range f.lease("clinic", 9) {
			f.equal("what is left", l.Type, bridge.CallbackSent)
		}
	}},
	{"Post stores all or none", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MaxCallbacks: 2})
		f.post(f.sent("clinic", "u"))
		cs := []bridge.Callback{f.online("phone", "u"), f.sent("clinic", "u"), f.sent("clinic", "v")}
		if err := f.outbox.Post(f.ctx, cs...); !errors.Is(err, bridge.ErrOutboxFull) {
			f.Errorf("post: %v", err)
		}
		f.equal("backlogs", []int{f.backlog("clinic").Waiting, f.backlog("phone").Waiting}, []int{1, 0})
		f.post(cs[:2]...)
		f.equal("backlogs", []int{f.backlog("clinic").Waiting, f.backlog("phone").Waiting}, []int{2, 1})
	}},
	{"dead ones are bounded, and those given up first go first", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MaxCallbacks: 2})
		var ids []string
		for i := range 4 {
			c := f.online("clinic", fmt.Sprint("u", i))
			f.post(c)
			ids = append(ids, c.ID)
			f.giveUp(f.lease("clinic", 1)...)
			f.clock.Advance(time.Second)
		}
		f.same("dead", callbackIDs(f.dead("clinic", "", 9)...), ids[2:])
		f.equal("backlog", f.backlog("clinic").Dead, 2)
		f.equal("of one that went", f.ofUser("u0"), 0)
		f.equal("of one that stayed", f.ofUser("u3"), 1)
	}},
	{"dead ones are bounded in bytes as well, however they left", func(f *fixture) {
		size := int64(len(f.sent("clinic", "u").Body))
		f.fresh(Options{Backends: Backends, MaxCallbackBytes: 3*size + size/2})
		bury := func(n int) (last string) {
			for range n {
				c := f.sent("clinic", "u")
				f.post(c)
				f.giveUp(f.lease("clinic", 1)...)
				f.clock.Advance(time.Second)
				last = c.ID
			}
			return last
		}
		last := bury(5)
		f.equal("backlog", f.backlog("clinic").Dead, 3)
		f.equal("redriven", f.redrive("clinic", last), 1)
		f.equal("taken", callbackIDs(f.taken("clinic")...), []string{last})
		bury(1)
		f.equal("with room for one", f.backlog("clinic").Dead, 3)
		f.must("erase", f.store.Erase(f.ctx, "u"))
		bury(2)
		f.equal("after an erasure", f.backlog("clinic").Dead, 2)
		f.clock.Advance(bridge.DeadCallbacksFor + time.Minute)
		f.dead("clinic", "", 9)
		bury(3)
		f.equal("after those before were forgotten", f.backlog("clinic").Dead, 3)
	}},
	{"what is sent again needs room, and stays dead without", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MaxCallbacks: 2})
		a, b := f.sent("clinic", "u"), f.sent("clinic", "u")
		f.post(a, b)
		f.giveUp(f.lease("clinic", 1)...)
		f.giveUp(f.lease("clinic", 1)...)
		f.post(f.sent("clinic", "u"))
		if n, err := f.outbox.Redrive(f.ctx, "clinic", nil, true); n != 1 || !errors.Is(err, bridge.ErrOutboxFull) {
			f.Errorf("redrive: %d, %v", n, err)
		}
		f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{2, 1})
	}},
	{"without Backends nothing is stored", func(f *fixture) {
		m := f.message(user("u"))
		m.Escalate = time.Minute
		f.append(m)
		f.send(user("u"), time.Minute)
		f.ack("u", bridge.Position{Mailbox: 1})
		f.clock.Advance(2 * time.Hour)
		f.reopen()
		f.equal("timers", len(f.timers()), 0)
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{})
	}},
}
