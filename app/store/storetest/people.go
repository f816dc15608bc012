package storetest

import (
	"fmt"
	"slices"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func (f *fixture) presence(users ...string) []bridge.Presence {
	f.Helper()
	return must(f.live.Presence(f.ctx, users))(f, "presence")
}

func (f *fixture) leave(t bridge.DeliveryLog) {
	f.Helper()
	if t.Ended.IsZero() {
		t.Ended = f.clock.Now()
	}
	f.ok("leave", f.live.Leave(f.ctx, t))
}

// logs is what is kept of a user's sessions, oldest first.
func (f *fixture) logs(user string) []bridge.DeliveryLog {
	f.Helper()
	lists := must(f.store.DeliveryLogs(f.ctx, []string{user}))(f, "delivery logs")
	slices.SortFunc(lists[0], func(a, b bridge.DeliveryLog) int { return bridge.OldestFirst(a.Member, b.Member) })
	return lists[0]
}

func (f *fixture) revoked(user, tokenID string, issued time.Time) bool {
	f.Helper()
	return must(f.store.Revoked(f.ctx, user, tokenID, issued))(f, "revoked")
}

// logOf is the delivery log of a session that was handed something.
func logOf(user, session string, since time.Time) bridge.DeliveryLog {
	since = since.UTC().Truncate(time.Millisecond)
	return bridge.DeliveryLog{
		Member: bridge.Member{User: user, Session: session, Transport: "websocket", Since: since, Until: since.Add(time.Hour)},
		Sent:   []bridge.Mark{{Place: bridge.Position{Mailbox: 1}, At: since}},
		Ended:  since.Add(time.Second),
	}
}

var people = []promise{
	{"presence tells who is there, with how many sessions, in the order asked", func(f *fixture) {
		f.come("u", "ses_1", f.clock.Now())
		f.come("u", "ses_2", f.clock.Now())
		f.come("u", "ses_2", f.clock.Now()) // refreshed
		f.come("v", "ses_3", f.clock.Now())
		got := f.presence("v", "nobody", "u")
		f.equal("users", got[0].User+" "+got[1].User+" "+got[2].User, "v nobody u")
		f.equal("sessions", fmt.Sprint(got[0].Sessions, got[1].Sessions, got[2].Sessions), "1 0 2")
		f.equal("nobody was seen", got[1].LastSeen.IsZero(), true)
		f.equal("u is seen now", got[2].LastSeen.Equal(f.clock.Now()), true)
		list, err := f.live.Sessions(f.ctx, "u")
		if err != nil {
			f.Fatal(err)
		}
		f.equal("sessions of u", fmt.Sprintln(len(list), list[0].Session, list[0].Transport, list[1].Session), "2 ses_1 websocket ses_2\n")
		f.leave(bridge.DeliveryLog{Member: bridge.Member{User: "u", Session: "ses_1"}})
		f.equal("one left", f.presence("u")[0].Sessions, 1)
	}},
	{"when a user was last seen survives a restart, and presence does not", func(f *fixture) {
		f.come("u", "ses_1", f.clock.Now())
		f.clock.Advance(time.Minute)
		f.leave(bridge.DeliveryLog{Member: bridge.Member{User: "u", Session: "ses_1"}})
		left := f.clock.Now()
		f.clock.Advance(time.Hour)
		f.equal("last seen", f.presence("u")[0].LastSeen.Equal(left), true)
		f.come("u", "ses_2", f.clock.Now())
		joined := f.clock.Now()
		f.reopen()
		f.clock.Advance(time.Hour)
		p := f.presence("u")[0]
		f.equal("sessions", p.Sessions, 0)
		f.equal("last seen", p.LastSeen.Equal(joined), true)
	}},
	{"delivery logs are kept when a session leaves; those that live are asked of other machines", func(f *fixture) {
		a, b, c := logOf("u", "ses_a", f.clock.Now()), logOf("u", "ses_b", f.clock.Now().Add(time.Second)), logOf("u", "ses_c", f.clock.Now().Add(2*time.Second))
		for _, t := range []bridge.DeliveryLog{a, b} {
			f.come("u", t.Member.Session, f.clock.Now())
		}
		f.leave(b)
		f.leave(a)
		f.come("u", "ses_empty", f.clock.Now())
		f.leave(bridge.DeliveryLog{Member: bridge.Member{User: "u", Session: "ses_empty"}})
		f.come("u", "ses_c", f.clock.Now())
		f.table.SetDeliveryLogs(c)
		f.equal("delivery logs", f.logs("u"), []bridge.DeliveryLog{a, b})
		elsewhere, err := f.live.Ask(f.ctx, []string{"u"})
		f.equal("elsewhere", fmt.Sprint(len(elsewhere), err), "0 <nil>")
		f.reopen()
		f.equal("delivery logs after a restart", f.logs("u"), []bridge.DeliveryLog{a, b})
		f.equal("of others", len(f.logs("v")), 0)
	}},
	{"of one user the last delivery logs are kept, and none for longer than ids", func(f *fixture) {
		for i := range bridge.MaxDeliveryLogs + 10 {
			s := fmt.Sprintf("ses_%03d", i)
			f.come("u", s, f.clock.Now())
			f.clock.Advance(time.Second)
			f.leave(logOf("u", s, f.clock.Now()))
		}
		list := f.logs("u")
		f.equal("kept", len(list), bridge.MaxDeliveryLogs)
		f.equal("the oldest", list[0].Member.Session, "ses_010")
		f.clock.Advance(30 * 24 * time.Hour)
		expect.Eventually(f, "they are forgotten", func() bool { return len(f.logs("u")) == 0 })
	}},
	{"a notice reaches the listener as it was given", func(f *fixture) {
		n := bridge.Notice{Kind: bridge.NoticeDisconnect, User: "u", Session: "ses_1"}
		f.ok("tell", f.live.Tell(f.ctx, n))
		expect.Eventually(f, "the notice", func() bool { return len(f.hub.told(bridge.NoticeDisconnect)) == 1 })
		f.equal("notice", f.hub.told(bridge.NoticeDisconnect)[0], n)
	}},
	{"revoked tokens stay revoked, by id and by time of issue", func(f *fixture) {
		noon := f.clock.Now().UTC().Truncate(time.Second)
		for _, r := range []bridge.Revocation{{TokenID: "stolen"}, {IssuedBefore: noon}, {IssuedBefore: noon.Add(-time.Hour)}} {
			f.ok("revoke", f.store.Revoke(f.ctx, "u", r))
		}
		expect.Eventually(f, "three notices", func() bool { return len(f.hub.told(bridge.NoticeRevoked)) == 3 })
		f.equal("notice", f.hub.told(bridge.NoticeRevoked)[0], bridge.Notice{Kind: bridge.NoticeRevoked, User: "u", Revocation: bridge.Revocation{TokenID: "stolen"}})
		for range 2 {
			f.equal("by id", f.revoked("u", "stolen", noon.Add(time.Hour)), true)
			f.equal("by time", f.revoked("u", "another", noon.Add(-time.Second)), true)
			f.equal("without a time", f.revoked("u", "", time.Time{}), true)
			f.equal("newer", f.revoked("u", "another", noon), false)
			f.equal("another user's", f.revoked("v", "stolen", noon.Add(-time.Hour)), false)
			f.reopen()
		}
	}},
}
