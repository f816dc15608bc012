package storetest

import (
	"errors"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func (f *fixture) recall(id string) {
	f.Helper()
	f.ok("recall", f.store.Recall(f.ctx, id))
}

func (f *fixture) lookup(id string) bridge.Record {
	f.Helper()
	return must(f.store.Lookup(f.ctx, id))(f, "lookup")
}

func (f *fixture) unknown(call string, err error) {
	f.Helper()
	if !errors.Is(err, bridge.ErrUnknown) {
		f.Errorf("%s: got %v, want ErrUnknown", call, err)
	}
}

var recalling = []promise{
	{"a recalled message is gone from every mailbox and leaves no gap", func(f *fixture) {
		both := bridge.Target{Users: []string{"u", "v"}}
		a := f.send(both, time.Hour)
		b := f.send(both, time.Minute)
		c := f.send(both, time.Hour)
		for range 2 {
			f.recall(b.ID)
			for _, u := range []string{"u", "v"} {
				f.finds(u, bridge.Lost{}, a.ID, c.ID)
			}
			f.clock.Advance(10 * time.Minute)
			f.prune()
		}
		f.recall(c.ID) // the newest
		f.reopen()
		f.equal("messages", ids(f.all("u", bridge.Position{}).Deliveries), []string{a.ID})
		f.equal("next place", f.append(f.message(user("u"))).Recipients[0].Seq, uint64(4))
	}},
	{"those it was for are notified, each with its place", func(f *fixture) {
		f.send(user("v"), time.Hour)
		m := f.send(bridge.Target{Users: []string{"u", "v"}}, time.Hour)
		f.recall(m.ID)
		expect.Eventually(f, "two notices", func() bool { return len(f.hub.told(bridge.NoticeRecalled)) == 2 })
		f.equal("notices", f.hub.told(bridge.NoticeRecalled), []bridge.Notice{
			{Kind: bridge.NoticeRecalled, User: "u", ID: m.ID, Mailbox: 1},
			{Kind: bridge.NoticeRecalled, User: "v", ID: m.ID, Mailbox: 2},
		})
	}},
	{"a message to all is recalled for all", func(f *fixture) {
		f.join("u")
		m := f.send(everybody, time.Hour)
		f.recall(m.ID)
		p := f.all("u", bridge.Position{})
		f.equal("messages", len(p.Deliveries), 0)
		f.equal("lost", p.Lost(), bridge.Lost{})
		expect.Eventually(f, "a notice", func() bool { return len(f.hub.told(bridge.NoticeRecalled)) == 1 })
		f.equal("notice", f.hub.told(bridge.NoticeRecalled)[0], bridge.Notice{Kind: bridge.NoticeRecalled, ID: m.ID, Broadcast: 1})
	}},
	{"the id of a recalled message stays remembered", func(f *fixture) {
		m := f.send(user("u"), time.Hour)
		f.recall(m.ID)
		f.reopen()
		f.equal("duplicate", f.append(m).Duplicate, true)
		f.equal("messages", len(f.all("u", bridge.Position{}).Deliveries), 0)
		f.equal("recalled at", f.lookup(m.ID).Recalled.IsZero(), false)
	}},
	{"a duplicate of what was recalled or replaced has its place, by which the sessions that have it are found", func(f *fixture) {
		f.join("u")
		for _, to := range []bridge.Target{user("u"), {Users: []string{"u", "v"}}, everybody} {
			f.send(to, time.Hour)
			place := func(m *bridge.Message) bridge.Receipt { r := told(f.append(m)); r.Expires = time.Time{}; return r }
			recalled, old, latest := f.send(to, time.Hour), f.message(to), f.message(to)
			old.Topic, latest.Topic = "t", "t"
			f.append(old)
			was := []bridge.Receipt{place(recalled), place(old)}
			f.recall(recalled.ID)
			f.append(latest)
			for range 2 {
				f.equal("receipts", []bridge.Receipt{place(recalled), place(old)}, was)
				f.reopen()
			}
		}
	}},
	{"what was never stored, and what has expired, can be recalled from sessions", func(f *fixture) {
		passing := f.message(user("u"))
		passing.Expires = time.Time{}
		f.append(passing)
		gone := f.send(user("u"), time.Minute)
		f.clock.Advance(10 * time.Minute)
		f.prune()
		f.recall(passing.ID)
		f.recall(gone.ID)
		expect.Eventually(f, "two notices", func() bool { return len(f.hub.told(bridge.NoticeRecalled)) == 2 })
		f.equal("places", f.hub.told(bridge.NoticeRecalled)[1].Mailbox, uint64(1))
		f.equal("the loss stays one", f.all("u", bridge.Position{}).Lost().Expired.Mailbox, uint64(1))
	}},
	{"an unknown event can be neither recalled, looked up nor seen", func(f *fixture) {
		f.send(user("u"), time.Hour)
		f.unknown("recall", f.store.Recall(f.ctx, "msg_none"))
		_, err := f.store.Lookup(f.ctx, "msg_none")
		f.unknown("lookup", err)
		f.unknown("seen", f.store.Seen(f.ctx, "u", "ses_1", "msg_none", f.clock.Now()))
	}},
	{"Lookup tells what became of an event for each recipient", func(f *fixture) {
		m := f.message(bridge.Target{Users: []string{"v", "u"}})
		m.From, m.Except = "doctor", []string{"ses_9"}
		f.append(m)
		f.ack("u", bridge.Position{Mailbox: 1})
		seen := f.clock.Now().UTC().Truncate(time.Millisecond)
		f.ok("seen", f.store.Seen(f.ctx, "v", "ses_1", m.ID, seen))
		f.ok("seen", f.store.Seen(f.ctx, "v", "ses_1", m.ID, seen.Add(time.Minute)))
		want := bridge.Record{ID: m.ID, Type: "test", From: "doctor", Timestamp: m.At, Expires: m.Expires, Except: []string{"ses_9"},
			Recipients: []bridge.RecipientStatus{
				{User: "v", Seq: 1, Held: true, Seen: []bridge.SeenAt{{Session: "ses_1", At: seen}}},
				{User: "u", Seq: 1, Held: true, Acked: true},
			}}
		for range 2 {
			expect.Eventually(f, "the first sight to be kept", func() bool { return len(f.lookup(m.ID).Recipients[0].Seen) == 1 })
			got := f.lookup(m.ID)
			f.equal("expires", got.Expires.Equal(want.Expires), true)
			got.Expires = want.Expires
			f.equal("record", got, want)
			f.reopen()
		}
		f.clock.Advance(2 * time.Hour)
		f.prune()
		got := f.lookup(m.ID)
		f.equal("held", got.Recipients[0].Held, false)
		f.equal("place", got.Recipients[0].Seq, uint64(1))
		f.equal("acked", got.Recipients[1].Acked, true)
		f.equal("type, when the payload is gone", got.Type, "test")
	}},
	{"Lookup of a message to all lists those whose it is", func(f *fixture) {
		f.join("bob")
		f.join("ada")
		m := f.send(everybody, time.Hour)
		f.join("late")
		f.ack("ada", bridge.Position{Broadcast: 1})
		r := f.lookup(m.ID)
		f.equal("all", r.All, true)
		f.equal("place", r.Broadcast, uint64(1))
		f.equal("fates", r.Recipients, []bridge.RecipientStatus{{User: "ada", Held: true, Acked: true}, {User: "bob", Held: true}})
		f.unknown("seen by who came later", f.store.Seen(f.ctx, "late", "ses_1", m.ID, f.clock.Now()))
		f.ok("seen", f.store.Seen(f.ctx, "bob", "ses_1", m.ID, f.clock.Now()))
	}},
	{"an event of others is unknown to a user", func(f *fixture) {
		m := f.send(user("u"), time.Hour)
		f.join("v")
		f.unknown("seen", f.store.Seen(f.ctx, "v", "ses_1", m.ID, f.clock.Now()))
	}},
	{"Lookup of what was never stored says so", func(f *fixture) {
		m := f.message(user("u"))
		m.Expires = time.Time{}
		f.append(m)
		r := f.lookup(m.ID)
		f.equal("expires", r.Expires.IsZero(), true)
		f.equal("fates", r.Recipients, []bridge.RecipientStatus{{User: "u"}})
	}},
	{"Lookup of what was never stored and was to all lists everybody", func(f *fixture) {
		f.join("bob")
		f.join("ada")
		m := f.message(everybody)
		m.Expires = time.Time{}
		f.append(m)
		f.ok("seen", f.store.Seen(f.ctx, "bob", "ses_1", m.ID, f.clock.Now()))
		var r bridge.Record
		expect.Eventually(f, "two recipients, and the sight of the second", func() bool {
			r = f.lookup(m.ID)
			return len(r.Recipients) == 2 && len(r.Recipients[1].Seen) == 1
		})
		r.Recipients[1].Seen = nil
		f.equal("record", []any{r.All, r.Broadcast, r.Recipients}, []any{true, uint64(0), []bridge.RecipientStatus{{User: "ada"}, {User: "bob"}}})
	}},
}
