package storetest

import (
	"strings"
	"time"

	"hookbridge/app/bridge"
)

// room is how many bytes of payload a mailbox holds in these tests, and third what
// three messages fill it with.
const (
	room  = 3_000
	third = room / 3
)

// heavy makes a message whose event has so many bytes.
func (f *fixture) heavy(to bridge.Target, size int) *bridge.Message {
	m := f.message(to)
	m.Event = []byte(`{"id":"` + m.ID + `","type":"test","data":"`)
	m.Event = append(m.Event, strings.Repeat("x", size-len(m.Event)-2)+`"}`...)
	m.Digest = digestOf(m.Event)
	m.Encode()
	return m
}

// holds checks what is in a mailbox, and up to where it was trimmed.
func (f *fixture) holds(user string, trimmed uint64, want ...*bridge.Message) {
	f.Helper()
	p := f.all(user, bridge.Position{})
	list := []string{}
	for _, m := range want {
		list = append(list, m.ID)
	}
	f.equal("messages of "+user, ids(p.Deliveries), list)
	f.equal("lost of "+user, p.Lost().Trimmed.Mailbox, trimmed)
	f.equal("pending of "+user, f.pending(user, bridge.Position{}), len(want))
}

var holding = []promise{
	{"a mailbox with more bytes than it may have loses its oldest messages, announced as trimmed", func(f *fixture) {
		f.fresh(Options{MailboxBytes: room})
		var sent []*bridge.Message
		for range 4 {
			m := f.heavy(user("u"), third)
			f.append(m)
			sent = append(sent, m)
		}
		f.holds("u", 1, sent[1:]...)
		f.equal("place of a trimmed message", f.append(sent[0]).Recipients, []bridge.Recipient{{User: "u"}})
		f.reopen()
		f.holds("u", 1, sent[1:]...)
		two := f.heavy(user("u"), 2*third)
		f.append(two)
		f.holds("u", 3, sent[3], two)
		f.reopen()
		last := f.heavy(user("u"), third+1)
		f.append(last)
		f.holds("u", 5, last)
	}},
	{"one message always fits, however large, and the next one takes its place", func(f *fixture) {
		f.fresh(Options{MailboxBytes: room})
		large := f.heavy(user("u"), 3*room)
		f.append(large)
		f.holds("u", 0, large)
		next := f.heavy(user("u"), 2*room)
		f.append(next)
		f.holds("u", 1, next)
		small := f.heavy(user("u"), third)
		f.append(small)
		f.holds("u", 2, small)
	}},
	{"a payload that several share counts in the mailbox of each", func(f *fixture) {
		f.fresh(Options{MailboxBytes: room})
		both := bridge.Target{Users: []string{"u", "v"}}
		var sent []*bridge.Message
		for range 2 {
			m := f.heavy(both, third)
			f.append(m)
			sent = append(sent, m)
		}
		more := f.heavy(user("u"), 2*third)
		f.append(more)
		f.holds("u", 1, sent[1], more)
		f.holds("v", 0, sent...)
		f.reopen()
		for range 2 {
			m := f.heavy(both, third)
			f.append(m)
			sent = append(sent, m)
		}
		f.holds("u", 3, sent[2:]...)
		f.holds("v", 1, sent[1:]...)
	}},
	{"what has expired, was replaced or recalled takes no room", func(f *fixture) {
		f.fresh(Options{MailboxBytes: room})
		for _, to := range []bridge.Target{user("u"), {Users: []string{"u", "v"}}} {
			brief := f.heavy(to, 2*third)
			brief.Expires = f.clock.Now().Add(time.Minute).UTC()
			f.append(brief)
			f.clock.Advance(2 * time.Minute)
			var left []*bridge.Message
			for i := range 8 {
				m := f.heavy(to, third)
				m.Topic = "t"
				f.append(m)
				if i == 7 {
					left = append(left, m)
				}
			}
			for range 5 {
				m := f.heavy(to, third)
				f.append(m)
				f.recall(m.ID)
			}
			for range 2 {
				m := f.heavy(to, third)
				f.append(m)
				left = append(left, m)
			}
			f.holds("u", 0, left...)
			f.reopen()
			f.holds("u", 0, left...)
			for _, m := range left {
				f.recall(m.ID)
			}
		}
		f.holds("u", 0)
		f.holds("v", 0)
	}},
	{"the log of messages to all has ten times the room of a mailbox", func(f *fixture) {
		f.fresh(Options{MailboxBytes: room})
		f.join("u")
		for range 31 {
			f.append(f.heavy(everybody, third))
		}
		p := f.all("u", bridge.Position{})
		f.equal("messages and trimmed", []any{len(p.Deliveries), p.Lost().Trimmed.Broadcast}, []any{30, 1})
	}},
}
