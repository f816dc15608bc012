package storetest

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

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
	{"an ack tells of large messages to several, and of those that are gone not", func(f *fixture) {
		f.told()
		large := func() *bridge.Message {
			m := f.message(bridge.Target{Users: []string{"u1", "u2"}})
			m.Event = []byte(`"` + strings.Repeat("large ", 1000) + `"`)
			f.append(m)
			return m
		}
		first, gone, last := large(), large(), large()
		f.recall(gone.ID)
		for _, u := range []string{"u1", "u2"} {
			f.ack(u, bridge.Position{Mailbox: 3})
			f.same(u, callbackIDs(f.taken("clinic")...), f.acked("clinic", u, first, last))
		}
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
		for _, b := range Backends {
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
		f.fresh(Options{Backends: Backends, MailboxLimit: limit})
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
		f.join("u")
		want = append(want, f.send(everybody, time.Hour))
		f.recall(f.send(everybody, time.Hour).ID)
		f.ack("u", bridge.Position{Mailbox: 99, Broadcast: 99})
		f.same("told", callbackIDs(f.taken("clinic")...), f.acked("clinic", "u", want...))
		f.equal("acked", f.join("u").Acked, f.join("u").Head)
	}},
	{"one ack of many messages tells of each", func(f *fixture) {
		f.told()
		f.join("u")
		var ms, all []*bridge.Message
		for range 60 {
			all = append(all, f.send(everybody, time.Hour))
		}
		for range 700 {
			m := f.message(user("u"))
			ms = append(ms, m)
		}
		for _, r := range f.store.AppendMany(f.ctx, ms) {
			f.must("append", r.Err)
		}
		f.ack("u", bridge.Position{Mailbox: 700, Broadcast: 60})
		f.same("told", callbackIDs(f.taken("clinic")...), f.acked("clinic", "u", append(ms, all...)...))
		f.equal("acked", f.join("u").Acked, bridge.Position{Mailbox: 700, Broadcast: 60})
	}},
	{"of acks that come at once each counts, and each message is told of once", func(f *fixture) {
		f.told()
		var ms []*bridge.Message
		for range 40 {
			ms = append(ms, f.send(user("u"), time.Hour))
		}
		var wg sync.WaitGroup
		for i := range ms {
			wg.Go(func() {
				at := bridge.Position{Mailbox: uint64(i + 1)}
				if err := f.store.Ack(f.ctx, "u", "ses_1", f.store.Life(), at); err != nil {
					f.Errorf("ack: %v", err)
				}
				if got := f.join("u").Acked; !got.Covers(at) {
					f.Errorf("%v is acked after an ack of %v", got, at)
				}
			})
		}
		wg.Wait()
		f.same("told", callbackIDs(f.taken("clinic")...), f.acked("clinic", "u", ms...))
	}},
	{"where only acks, or only ends, are wanted of a user, each counts from when it came", func(f *fixture) {
		f.told()
		acked, ended := f.send(user("a"), time.Minute), f.send(user("e"), time.Minute)
		f.send(user("e"), 90*time.Second) // is acked shortly before its end
		f.ok("ack", f.store.AckLater(f.ctx, "a", "ses_1", f.store.Life(), bridge.Position{Mailbox: 1}))
		f.equal("told of the ack", callbackIDs(f.taken("acks")...), f.acked("acks", "a", acked))
		f.clock.Advance(time.Minute)
		f.ok("ack", f.store.AckLater(f.ctx, "e", "ses_1", f.store.Life(), bridge.Position{Mailbox: 2}))
		f.clock.Advance(time.Hour)
		f.equal("expired", due(f.timers()), []string{"event.expired e " + ended.ID})
		f.equal("told of the late ack", f.backlog("ends"), bridge.Backlog{})
	}},
	{"an ack that was answered, or that an answer tells of, survives a kill, whether backends hear of it or not", func(f *fixture) {
		acked := func(rs []bridge.RecipientStatus) (users []string) {
			for _, r := range rs {
				if r.Acked {
					users = append(users, r.User)
				}
			}
			return users
		}
		for _, name := range []string{"x", "u"} { // of x no backend hears
			f.told()
			users := []string{name + "1", name + "2", name + "3"}
			m := f.send(bridge.Target{Users: users}, time.Hour)
			lookup := func() []string { return acked(must(f.store.Lookup(f.ctx, m.ID))(f, "lookup").Recipients) }
			repeat := func() (told []string) {
				for _, r := range f.append(m).Recipients {
					if r.Acked {
						told = append(told, r.User)
					}
				}
				return told
			}
			f.ack(users[0], bridge.Position{Mailbox: 1})
			f.crash()
			f.equal("acked after Ack", lookup(), users[:1])
			for i, tell := range []func() []string{lookup, repeat} {
				f.ok("ack", f.store.AckLater(f.ctx, users[i+1], "ses_1", f.store.Life(), bridge.Position{Mailbox: 1}))
				f.equal("acked", tell(), users[:i+2])
				f.crash()
				f.equal("acked, as was told before the kill", tell(), users[:i+2])
			}
			f.join(users[0])
			all := f.send(everybody, time.Hour)
			f.ok("ack", f.store.AckLater(f.ctx, users[0], "ses_1", f.store.Life(), f.join(users[0]).Head))
			f.equal("acked, to all", acked(must(f.store.Lookup(f.ctx, all.ID))(f, "lookup").Recipients), users[:1])
			f.crash()
			f.equal("acked, to all, as was told before the kill", acked(must(f.store.Lookup(f.ctx, all.ID))(f, "lookup").Recipients), users[:1])
		}
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
