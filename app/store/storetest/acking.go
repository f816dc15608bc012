package storetest

import (
	"errors"
	"time"

	"hookbridge/app/bridge"
)

var acking = []promise{
	{"acks are cumulative, only move forward, and survive a restart", func(f *fixture) {
		f.join("u")
		for range 5 {
			f.send(user("u"), time.Hour)
			f.send(everybody, time.Hour)
		}
		steps := []struct{ ack, want bridge.Position }{
			{bridge.Position{Mailbox: 3}, bridge.Position{Mailbox: 3}},
			{bridge.Position{Mailbox: 1, Broadcast: 2}, bridge.Position{Mailbox: 3, Broadcast: 2}},
			{bridge.Position{Mailbox: 4, Broadcast: 1}, bridge.Position{Mailbox: 4, Broadcast: 2}},
			{bridge.Position{}, bridge.Position{Mailbox: 4, Broadcast: 2}},
		}
		for _, s := range steps {
			f.ack("u", s.ack)
			f.equal("acked", f.join("u").Acked, s.want)
		}
		f.reopen()
		f.equal("acked after a restart", f.join("u").Acked, bridge.Position{Mailbox: 4, Broadcast: 2})
	}},
	{"an ack beyond the head counts as the head of that moment", func(f *fixture) {
		f.join("u")
		f.send(user("u"), time.Hour)
		f.ack("u", bridge.Position{Mailbox: 1 << 40, Broadcast: 1 << 40})
		f.send(user("u"), time.Hour)
		f.send(everybody, time.Hour)
		f.equal("acked", f.join("u").Acked, bridge.Position{Mailbox: 1})
	}},
	{"an ack that may be written later counts in every answer, and survives a restart", func(f *fixture) {
		f.join("u")
		later := func(p bridge.Position) {
			f.Helper()
			f.ok("ack", f.store.AckLater(f.ctx, "u", "ses_1", f.store.Life(), p))
		}
		var sent []*bridge.Message
		for range 5 {
			sent = append(sent, f.send(user("u"), time.Hour))
			f.send(everybody, time.Hour)
		}
		later(bridge.Position{Mailbox: 1, Broadcast: 2})
		f.equal("acked", f.join("u").Acked, bridge.Position{Mailbox: 1, Broadcast: 2})
		later(bridge.Position{Mailbox: 2})
		f.equal("acked in a duplicate's receipt", f.append(sent[1]).Recipients[0].Acked, true)
		f.equal("the next one", f.append(sent[2]).Recipients[0].Acked, false)
		later(bridge.Position{Mailbox: 3})
		f.equal("acked when looked up", must(f.store.Lookup(f.ctx, sent[2].ID))(f, "lookup").Recipients[0].Acked, true)
		later(bridge.Position{Mailbox: 1})
		later(bridge.Position{Mailbox: 4})
		later(bridge.Position{Mailbox: 2, Broadcast: 3})
		f.reopen()
		f.equal("acked after a restart", f.join("u").Acked, bridge.Position{Mailbox: 4, Broadcast: 3})
		later(bridge.Position{Mailbox: 5, Broadcast: 4})
		f.ok("erase", f.store.Erase(f.ctx, "u"))
		f.equal("acked after an erasure", f.join("u").Acked, bridge.Position{Mailbox: 5, Broadcast: 5})
		if err := f.store.AckLater(f.ctx, "u", "ses_1", "nolife", bridge.Position{Mailbox: 1}); !errors.Is(err, bridge.ErrRewound) {
			f.Errorf("a life that never was: %v", err)
		}
	}},
	{"many users' acks that may be written later are all written", func(f *fixture) {
		users := numbered(300)
		m := f.message(bridge.Target{Users: users})
		f.append(m)
		for _, u := range users {
			f.ok("ack", f.store.AckLater(f.ctx, u, "ses_1", f.store.Life(), bridge.Position{Mailbox: 1}))
		}
		f.reopen()
		for _, r := range must(f.store.Lookup(f.ctx, m.ID))(f, "lookup").Recipients {
			if !r.Acked {
				f.Fatalf("%s has not acked", r.User)
			}
		}
	}},
	{"acks take nothing out of a mailbox", func(f *fixture) {
		m := f.send(user("u"), time.Hour)
		f.ack("u", bridge.Position{Mailbox: 1})
		f.equal("read", ids(f.all("u", bridge.Position{}).Deliveries), []string{m.ID})
	}},
	{"an ack by a user who has not joined counts, and does not make the user seen", func(f *fixture) {
		f.send(user("u"), time.Hour)
		f.ack("u", bridge.Position{Mailbox: 1})
		f.send(everybody, time.Hour)
		f.reopen()
		s := f.standing("u")
		f.equal("standing", s, bridge.JoinState{
			Head:  bridge.Position{Mailbox: 1, Broadcast: 1},
			Acked: bridge.Position{Mailbox: 1, Broadcast: 1},
			First: bridge.Position{Broadcast: 1},
			Live:  1,
		})
	}},
}
