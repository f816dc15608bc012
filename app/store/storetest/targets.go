package storetest

import (
	"strings"
	"time"

	"hookbridge/app/bridge"
)

var targets = []promise{
	{"a message to several users stands in each mailbox at its own place", func(f *fixture) {
		for _, u := range []string{"a", "b", "c"} {
			f.join(u)
		}
		f.send(user("b"), time.Hour)
		m := f.message(bridge.Target{Users: []string{"c", "b", "a"}})
		r := f.append(m)
		f.equal("recipients", r.Recipients, []bridge.Recipient{{User: "c", Seq: 1, Sessions: 1}, {User: "b", Seq: 2, Sessions: 1}, {User: "a", Seq: 1, Sessions: 1}})
		f.equal("sessions", r.Sessions, 3)
		for name, seq := range map[string]uint64{"a": 1, "b": 2, "c": 1} {
			p := f.all(name, bridge.Position{Mailbox: seq - 1})
			f.equal("read", ids(p.Deliveries), []string{m.ID})
			f.equal("place", p.Deliveries[0].Mailbox, seq)
			f.equal("to", p.Deliveries[0].Message.To, user(name))
		}
	}},
	{"a message to all is stored once and read by everybody who was seen before", func(f *fixture) {
		f.join("a")
		f.join("b")
		m := f.message(everybody)
		r := f.append(m)
		f.equal("receipt", []any{r.Broadcast, r.Sessions, r.Recipients == nil}, []any{1, 1, true})
		for _, name := range []string{"a", "b"} {
			p := f.all(name, bridge.Position{})
			f.equal("read", ids(p.Deliveries), []string{m.ID})
			f.equal("place", []uint64{p.Deliveries[0].Mailbox, p.Deliveries[0].Broadcast}, []uint64{0, 1})
			f.equal("to", p.Deliveries[0].Message.To, everybody)
		}
		f.equal("heard", len(f.hub.of("")), 1)
		r = f.append(m)
		f.equal("duplicate", []any{r.Duplicate, r.Broadcast, r.Sessions, r.Recipients == nil}, []any{true, 1, 0, true})
	}},
	{"a user seen for the first time owns messages to all from then on, and all of the mailbox", func(f *fixture) {
		f.send(everybody, time.Hour)
		f.send(everybody, time.Hour)
		mail := f.send(user("u"), time.Hour)
		p := f.all("u", bridge.Position{})
		f.equal("read before the first join", ids(p.Deliveries), []string{mail.ID})
		want := bridge.JoinState{
			Head:  bridge.Position{Mailbox: 1, Broadcast: 2},
			Acked: bridge.Position{Broadcast: 2},
			First: bridge.Position{Broadcast: 2},
			Live:  1,
		}
		f.equal("first join", f.standing("u"), want)
		later := f.send(everybody, time.Hour)
		want.Head.Broadcast = 3
		for range 2 {
			f.equal("join", f.standing("u"), want)
			f.finds("u", bridge.Lost{}, mail.ID, later.ID)
			f.equal("pending", f.pending("u", bridge.Position{}), 2)
			f.reopen()
		}
	}},
	{"a message comes back as it was given", func(f *fixture) {
		m := f.message(user("u"))
		m.From = "doctor-7"
		m.Except = []string{"ses_a", "ses_b"}
		m.Event = []byte("{\"id\":\"x\",\"data\":{ \"weird\" :\"\\u0000 \x7f é 漢\"} }")
		m.Encode()
		f.append(m)
		f.reopen()
		d := f.all("u", bridge.Position{}).Deliveries[0]
		f.equal("message", []any{d.Message.ID, d.Message.From, string(d.Message.Event), string(d.Message.Tail), d.Message.Except, d.Message.Expires.UnixMilli()},
			[]any{m.ID, m.From, string(m.Event), string(m.Tail), m.Except, m.Expires.UnixMilli()})
	}},
	{"user ids may be anything the protocol allows", func(f *fixture) {
		names := []string{"'; DROP TABLE mail; --", `"q"`, "a/b/../c", "a.b", "*", "%", "_", "Ä漢🙂", " ", "A", "a", "user:1", "{u}", strings.Repeat("漢", bridge.MaxUserChars)}
		for _, name := range names {
			f.join(name)
			f.send(user(name), time.Hour)
			f.ack(name, bridge.Position{Mailbox: 1})
		}
		f.send(bridge.Target{Users: names}, time.Hour)
		f.reopen()
		for _, name := range names {
			p := f.all(name, bridge.Position{})
			f.equal("messages of "+name, len(p.Deliveries), 2)
			f.equal("to", p.Deliveries[0].Message.To.User, name)
			f.equal("acked by "+name, f.join(name).Acked.Mailbox, 1)
		}
	}},
}
