package storetest

import (
	"errors"
	"regexp"
	"time"

	"hookbridge/app/bridge"
)

var living = []promise{
	{"a restart keeps the epoch, sequences, ids and messages", func(f *fixture) {
		epoch := f.store.Epoch()
		if !regexp.MustCompile(`^[0-9a-z]{4,16}$`).MatchString(epoch) {
			f.Fatalf("epoch %q", epoch)
		}
		f.join("u")
		var sent []*bridge.Message
		for i := range 6 {
			m := f.send(user("u"), time.Hour)
			sent = append(sent, m, f.send(everybody, time.Hour))
			f.reopen()
			f.equal("epoch", f.store.Epoch(), epoch)
			f.equal("head", f.join("u").Head, bridge.Position{Mailbox: uint64(i + 1), Broadcast: uint64(i + 1)})
			if !f.append(m).Duplicate {
				f.Fatal("the id was forgotten")
			}
		}
		p := f.all("u", bridge.Position{})
		f.equal("messages", len(p.Deliveries), len(sent))
		f.equal("lost", p.Lost(), bridge.Lost{})
	}},
	{"a new store has another epoch", func(f *fixture) {
		first := f.store.Epoch()
		f.roomy()
		if f.store.Epoch() == first {
			f.Fatalf("both are %q", first)
		}
	}},
	{"a sound store says so, and sessions come and go", func(f *fixture) {
		for range 3 {
			f.ok("check", f.store.Check(f.ctx))
			f.join("u")
			f.ok("leave", f.live.Leave(f.ctx, bridge.DeliveryLog{Member: bridge.Member{User: "u", Session: "ses_1"}}))
			f.send(user("u"), time.Hour)
		}
	}},
	{"after Close every call says that it is closed", func(f *fixture) {
		f.send(user("u"), time.Hour)
		f.close()
		st, live, m := f.store, f.live, bridge.Member{User: "u", Session: "ses_1"}
		_, appended := st.Append(f.ctx, f.message(user("u")))
		_, joined := f.table.Join(f.ctx, live, m)
		_, pending := st.Pending(f.ctx, "u", bridge.Position{})
		_, read := st.Read(f.ctx, "u", st.Life(), bridge.Position{}, 1, 1)
		_, lookedUp := st.Lookup(f.ctx, "msg_1")
		_, logs := st.DeliveryLogs(f.ctx, []string{"u"})
		_, asked := live.Ask(f.ctx, []string{"u"})
		_, present := live.Presence(f.ctx, []string{"u"})
		_, sessions := live.Sessions(f.ctx, "u")
		_, revoked := st.Revoked(f.ctx, "u", "t", f.clock.Now())
		_, members := st.Members(f.ctx, "g")
		_, groups := st.Groups(f.ctx, "u")
		for call, err := range map[string]error{
			"Append": appended, "Join": joined, "Pending": pending, "Read": read, "Leave": live.Leave(f.ctx, bridge.DeliveryLog{Member: m}),
			"Lookup": lookedUp, "Recall": st.Recall(f.ctx, "msg_1"), "Seen": st.Seen(f.ctx, "u", "ses_1", "msg_1", f.clock.Now()),
			"DeliveryLogs": logs, "Ask": asked, "Presence": present, "Sessions": sessions, "Tell": live.Tell(f.ctx, bridge.Notice{}),
			"Revoke": st.Revoke(f.ctx, "u", bridge.Revocation{TokenID: "t"}), "Revoked": revoked, "Erase": st.Erase(f.ctx, "u"),
			"Members": members, "SetMember": st.SetMember(f.ctx, "g", "u", true), "Groups": groups,
			"AppendMany": st.AppendMany(f.ctx, []*bridge.Message{f.message(user("u"))})[0].Err,
			"Ack":        st.Ack(f.ctx, "u", "ses_1", st.Life(), bridge.Position{Mailbox: 1}), "Check": st.Check(f.ctx), "Close": st.Close(),
		} {
			if !errors.Is(err, bridge.ErrClosed) {
				f.Errorf("%s: got %v, want ErrClosed", call, err)
			}
		}
	}},
	{"Close finishes what was appended", func(f *fixture) {
		type result struct {
			m   *bridge.Message
			err error
		}
		results := make(chan result)
		for range 32 {
			m := f.message(user("u"))
			go func() {
				_, err := f.store.Append(f.ctx, m)
				results <- result{m, err}
			}()
		}
		first := <-results
		stored := map[string]bool{first.m.ID: true}
		if first.err != nil {
			f.Fatalf("append: %v", first.err)
		}
		f.close()
		for range 31 {
			switch r := <-results; {
			case r.err == nil:
				stored[r.m.ID] = true
			case !errors.Is(r.err, bridge.ErrClosed):
				f.Errorf("append: %v", r.err)
			}
		}
		f.start()
		for _, id := range ids(f.all("u", bridge.Position{}).Deliveries) {
			delete(stored, id)
		}
		f.equal("answered and not stored", len(stored), 0)
	}},
}
