package storetest

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// unavailable checks that a call on a broken store says so.
func (f *fixture) unavailable(what string, err error) {
	f.Helper()
	if !errors.Is(err, bridge.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		f.Errorf("%s: got %v, want ErrUnavailable", what, err)
	}
}

// sound waits until the store says that it can take messages.
func (f *fixture) sound() {
	f.Helper()
	expect.Eventually(f, "the store to be sound", func() bool { return f.store.Check(f.ctx) == nil })
}

var failing = []promise{
	{"a message that a failing store has refused is there once, after it was sent again", func(f *fixture) {
		f.join("u")
		before := f.send(user("u"), time.Hour)
		lost, all := f.message(user("u")), f.message(everybody)
		mend := f.backend.Break()
		_, err := f.store.Append(f.ctx, lost)
		f.unavailable("append", err)
		_, err = f.store.Append(f.ctx, all)
		f.unavailable("append to all", err)
		f.unavailable("append of several", f.store.AppendMany(f.ctx, []*bridge.Message{lost})[0].Err)
		f.unavailable("check", f.store.Check(f.ctx))
		mend()
		f.sound()
		f.append(lost)
		f.append(all)
		f.append(lost)
		p := f.all("u", bridge.Position{})
		f.equal("messages", split(p.Deliveries), [2][]string{{before.ID, lost.ID}, {all.ID}})
		f.equal("lost", p.Lost(), bridge.Lost{})
		f.reopen()
		f.equal("messages after a restart", split(f.all("u", bridge.Position{}).Deliveries), [2][]string{{before.ID, lost.ID}, {all.ID}})
	}},
	{"a session that a failing store does not let in is not there", func(f *fixture) {
		mend := f.backend.Break()
		_, err := f.table.Join(f.ctx, f.live, f.with("new", "ses_1", f.token("a", "ward")))
		f.unavailable("join", err)
		mend()
		f.sound()
		f.ok("leave", f.live.Leave(f.ctx, bridge.DeliveryLog{Member: bridge.Member{User: "new", Session: "ses_1"}, Ended: f.clock.Now()})) // as the bridge does with every session that ends
		f.equal("sessions", f.presence("new")[0].Sessions, 0)
		f.present("new", "ses_2", f.token("b", "ward"))
		f.equal("sessions", f.presence("new")[0].Sessions, 1)
		f.comprises("ward", "new")
	}},
	{"what a failing store refuses an operator is done when it is asked again", func(f *fixture) {
		f.present("ada", "ses_1", f.token("a", "ward"))
		m := f.send(user("ada"), time.Hour)
		mend := f.backend.Break()
		f.unavailable("recall", f.store.Recall(f.ctx, m.ID))
		f.unavailable("revoke", f.store.Revoke(f.ctx, "ada", bridge.Revocation{TokenID: "none"}))
		f.unavailable("set member", f.store.SetMember(f.ctx, "night", "ada", true))
		f.unavailable("erase", f.store.Erase(f.ctx, "ada"))
		mend()
		f.sound()
		f.recall(m.ID)
		f.member("night", "ada", true)
		f.comprises("night", "ada")
		f.revoke("ada", bridge.Revocation{TokenID: "none"})
		f.erase("ada")
		f.comprises("night")
		f.equal("messages", len(f.all("ada", bridge.Position{}).Deliveries), 0)
	}},
}
