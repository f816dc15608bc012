package storetest

import (
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func (f *fixture) erase(user string) {
	f.Helper()
	f.ok("erase", f.store.Erase(f.ctx, user))
}

var erasing = []promise{
	{"an erased user has no mailbox, groups, delivery logs or sights, and is told", func(f *fixture) {
		f.come("u", "ses_1", f.clock.Now().Add(time.Hour), "g")
		f.member("h", "u", true)
		m := f.send(user("u"), time.Hour)
		f.ok("seen", f.store.Seen(f.ctx, "u", "ses_1", m.ID, f.clock.Now()))
		f.leave(logOf("u", "ses_1", f.clock.Now()))
		f.come("u", "ses_2", f.clock.Now())
		f.erase("u")
		expect.Eventually(f, "the notice", func() bool { return len(f.hub.told(bridge.NoticeErased)) == 1 })
		f.equal("notice", f.hub.told(bridge.NoticeErased)[0], bridge.Notice{Kind: bridge.NoticeErased, User: "u"})
		f.leave(logOf("u", "ses_2", f.clock.Now())) // the session that the notice ended
		for range 2 {
			f.equal("messages", len(f.all("u", bridge.Position{}).Deliveries), 0)
			f.equal("groups", len(f.groupsOf("u")), 0)
			f.equal("members", len(f.members("g"))+len(f.members("h")), 0)
			f.equal("delivery logs", len(f.logs("u")), 0)
			f.equal("presence", f.presence("u")[0], bridge.Presence{User: "u"})
			f.equal("fates", len(f.lookup(m.ID).Recipients), 0)
			f.reopen()
		}
	}},
	{"what others have too stays theirs", func(f *fixture) {
		m := f.send(bridge.Target{Users: []string{"u", "v"}}, time.Hour)
		other := f.send(user("v"), time.Hour)
		f.erase("u")
		f.equal("messages", ids(f.all("v", bridge.Position{}).Deliveries), []string{m.ID, other.ID})
		f.equal("fates", f.lookup(m.ID).Recipients, []bridge.RecipientStatus{{User: "v", Seq: 1, Held: true}})
	}},
	{"a late retry for an erased user is no new event", func(f *fixture) {
		m := f.send(user("u"), time.Hour)
		f.erase("u")
		f.reopen()
		f.equal("duplicate", f.append(m).Duplicate, true)
		f.equal("messages", len(f.all("u", bridge.Position{}).Deliveries), 0)
	}},
	{"an old cursor of an erased user finds a gap, and nobody's sequences start again", func(f *fixture) {
		f.join("u")
		for range 5 {
			f.send(user("u"), time.Hour)
		}
		f.erase("u")
		for range 2 {
			s := f.join("u")
			f.equal("head", s.Head.Mailbox, uint64(5))
			f.equal("acked", s.Acked.Mailbox, uint64(5))
			f.equal("lost", f.all("u", bridge.Position{Mailbox: 2}).Lost().Trimmed.Mailbox, uint64(5))
			f.reopen()
		}
		m := f.message(user("u"))
		f.equal("place", f.append(m).Recipients[0].Seq, uint64(6))
		p := f.all("u", bridge.Position{Mailbox: 5})
		f.equal("messages", ids(p.Deliveries), []string{m.ID})
		f.equal("lost", p.Lost(), bridge.Lost{})
	}},
	{"an erased user counts as never seen", func(f *fixture) {
		f.join("u")
		f.send(everybody, time.Hour)
		f.erase("u")
		f.equal("messages to all", len(f.all("u", bridge.Position{}).Deliveries), 0)
		f.equal("first", f.join("u").First, bridge.Position{Broadcast: 1})
	}},
	{"revocations outlive the user", func(f *fixture) {
		f.ok("revoke", f.store.Revoke(f.ctx, "u", bridge.Revocation{TokenID: "t"}))
		f.erase("u")
		f.reopen()
		f.equal("revoked", f.revoked("u", "t", f.clock.Now()), true)
	}},
	{"nobody known can be erased, again and again", func(f *fixture) {
		f.erase("nobody")
		f.erase("nobody")
		f.equal("head", f.join("nobody").Head, bridge.Position{})
	}},
}
