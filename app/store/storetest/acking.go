package storetest

import (
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
