package storetest

import (
	"time"

	"hookbridge/app/bridge"
)

var many = []promise{
	{"delivery logs of many are those of each", func(f *fixture) {
		users := []string{"nobody", "u", "v", "gone", "w"}
		until := f.clock.Now().Add(time.Hour)
		for _, u := range users[1:] {
			f.come(u, "ses_old_"+u, until)
			f.leave(logOf(u, "ses_old_"+u, f.clock.Now()))
			f.come(u, "ses_"+u, until)
		}
		f.erase("gone")
		all, err := f.store.DeliveryLogs(f.ctx, users)
		f.equal("error", err, nil)
		for i, u := range users {
			kept := 1
			if u == "nobody" || u == "gone" {
				kept = 0
			}
			f.equal("kept of "+u, len(all[i]), kept)
			f.equal("delivery logs of "+u, all[i], f.logs(u))
		}
	}},
	{"an event to as many as one may name is recalled, again and again, looked up and repeated", func(f *fixture) {
		users := numbered(bridge.MaxRecipients)
		m := f.message(bridge.Target{Users: users})
		f.append(m)
		f.equal("repeated", len(f.append(m).Recipients), len(users))
		rec := f.lookup(m.ID)
		f.equal("fates", []any{len(rec.Recipients), rec.Recipients[999].Held}, []any{len(users), true})
		for range 5 {
			f.recall(m.ID)
		}
		f.equal("held", f.lookup(m.ID).Recipients[999].Held, false)
		f.holds("u0", 0)
		f.equal("presence", len(f.presence(users...)), len(users))
	}},
	{"messages of a topic to many take each other's places", func(f *fixture) {
		users := numbered(200)
		var last *bridge.Message
		for range 10 {
			last = f.heavy(bridge.Target{Users: users}, 1000)
			last.Topic = "t"
			f.append(last)
		}
		for _, u := range []string{"u0", "u100", "u199"} {
			f.holds(u, 0, last)
			f.equal("places", f.all(u, bridge.Position{}).Next().Mailbox, uint64(10))
		}
	}},
}
