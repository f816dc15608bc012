package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// FilledMailbox is the MailboxLimit that Fill needs a store to have.
const FilledMailbox = limit

// The people and groups of a filled store; some have names that a careless
// separator would cut.
var (
	filledUsers = []string{"ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ivy", "jon", "kim", "lea", "mia", "ned", "ole",
		"pia:1/ü|", "pia", `qu"y`, "nobody"}
	filledGroups = []string{"set", "by-token", "both", "run out", "left"}
)

// Times to live in a filled store: before Fill is done a brief message has
// expired, and a long one outlives what Same does.
const (
	brief = time.Minute
	long  = 72 * time.Hour
)

// Fill brings an empty store into all the states that one can be in, which Same
// looks at. The store is new, with FilledMailbox as its limit, Backends (where the pair
// has an Outbox) and c for its clock.
func Fill(t *testing.T, p Pair, c *Clock) {
	t.Helper()
	f := carried(t, p, c)
	for _, u := range []string{"ada", "bob", "cyd", "dan", "fay", "gus", "jon"} {
		f.come(u, "ses_"+u, c.Now().Add(time.Hour))
	}
	f.come("kim", "ses_kim", c.Now().Add(48*time.Hour), "by-token", "both")
	f.come("ivy", "ses_ivy", c.Now().Add(time.Hour), "run out")
	for _, g := range []string{"set", "both", "left"} {
		f.member(g, "lea", true)
		f.member(g, "kim", g == "both")
	}
	f.member("left", "lea", false)
	f.fillMailboxes()
	f.fillPeople()
	c.Advance(2 * time.Hour)
	f.fillLater()
	c.Advance(2 * brief)
	if f.outbox != nil {
		f.fillOutbox()
	}
}

// carried is a fixture for a pair that somebody else has opened.
func carried(t *testing.T, p Pair, c *Clock) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*expect.Patience)
	t.Cleanup(cancel)
	f := &fixture{T: t, store: p.Store, live: p.Live, outbox: p.Outbox, clock: c, table: &Hub{}, ctx: ctx}
	f.hub = &recorder{Hub: f.table}
	p.Store.Listen(f.hub)
	p.Live.Listen(f.hub)
	return f
}

// passing appends a message that is never stored.
func (f *fixture) passing(to bridge.Target) {
	f.Helper()
	m := f.message(to)
	m.Expires = time.Time{}
	f.append(m)
}

// fillMailboxes has messages trimmed, expired, replaced, recalled and read.
func (f *fixture) fillMailboxes() {
	f.Helper()
	several := bridge.Target{Users: []string{"hal", "ada", "bob", "dan"}}
	for i := range limit + 5 {
		f.send(user("bob"), long)
		if i%4 == 0 {
			f.send(everybody, long)
			f.send(user("ada"), long)
			f.send(several, long)
		}
	}
	f.send(everybody, brief)
	f.passing(user("ada"))
	f.passing(everybody)
	f.passing(several)
	for _, ttl := range []time.Duration{long, brief, brief, long, brief, long} {
		f.send(user("cyd"), ttl)
		f.send(user(`qu"y`), ttl)
	}
	for range 3 {
		f.send(user("mia"), brief) // nothing of hers is left later, nor was she ever here
		f.send(user("pia"), long)
		f.send(user("pia:1/ü|"), long)
	}
	f.send(user("dan"), brief)
	f.recall(f.send(user("dan"), long).ID)
	f.send(user("dan"), long)
	f.recall(f.send(several, brief).ID)
	f.recall(f.send(everybody, long).ID)
	f.recall(f.send(user("dan"), long).ID)
	for range 3 {
		f.about("t", user("jon"), long)
		f.about("u", user("jon"), brief)
		f.about("t", bridge.Target{Users: []string{"jon", "hal"}}, long)
		f.about("all", everybody, long)
	}
	f.ack("jon", bridge.Position{Mailbox: 9, Broadcast: 2})
	f.about("t", user("jon"), long) // beside the acked one
	f.send(group("both"), long)
	f.send(group("nobody's"), long)
	f.ack("ada", bridge.Position{Mailbox: 3, Broadcast: 4})
	f.ack("hal", bridge.Position{Mailbox: 2}) // by whom no session has joined
	f.ack("ivy", bridge.Position{Broadcast: 1})

	large := f.message(several) // large enough that a store may keep it once for all of them
	large.Event = fmt.Appendf(nil, `{"id":%q,"type":"test","data":%q}`, large.ID, strings.Repeat("large ", 200))
	large.Expires = f.clock.Now().Add(long).UTC()
	large.Encode()
	f.append(large)
	signed := f.message(several)
	signed.From, signed.Except, signed.Type = "ada", []string{"ses_ada", "ses_9"}, "signed"
	signed.Expires = f.clock.Now().Add(long).UTC()
	f.append(signed)
	for _, u := range []string{"ada", "hal"} {
		f.ok("seen", f.store.Seen(f.ctx, u, "ses_"+u, signed.ID, f.clock.Now().UTC()))
	}
}

// fillPeople has users erased, tokens revoked and delivery logs kept.
func (f *fixture) fillPeople() {
	f.Helper()
	for _, u := range []string{"eve", "fay", "gus"} {
		for range 4 {
			f.send(user(u), long)
		}
		f.send(bridge.Target{Users: []string{u, "ada"}}, long)
		f.member("set", u, true)
		f.leave(logOf(u, "ses_"+u, f.clock.Now()))
		f.erase(u)
	}
	f.send(user("eve"), long) // to whom messages go on, unseen
	f.come("fay", "ses_fay2", f.clock.Now().Add(time.Hour))
	f.send(user("fay"), long)
	noon := f.clock.Now().UTC().Truncate(time.Second)
	for u, r := range map[string]bridge.Revocation{"ned": {TokenID: "stolen"}, "ole": {IssuedBefore: noon}, "gus": {TokenID: "late"}} {
		f.ok("revoke", f.store.Revoke(f.ctx, u, r))
	}
	for i, u := range []string{"ada", "bob", "cyd", "dan", "jon", "kim"} {
		log := logOf(u, "ses_"+u, f.clock.Now())
		log.Ended = f.clock.Now().Add(time.Duration(i) * time.Second).UTC().Truncate(time.Millisecond)
		log.Received = log.Sent
		log.Skips = []bridge.Skip{{First: bridge.Position{Mailbox: 2}, Last: bridge.Position{Mailbox: 2}}}
		log.Unstored = []bridge.Unstored{{ID: "msg_1", Frame: 2, Sent: log.Member.Since}}
		f.leave(log)
	}
	for i := range 3 {
		f.come("ada", fmt.Sprint("ses_more", i), f.clock.Now().Add(time.Hour))
		f.leave(logOf("ada", fmt.Sprint("ses_more", i), f.clock.Now().Add(time.Duration(i)*time.Second)))
	}
}

// fillLater goes on when what was brief has expired.
func (f *fixture) fillLater() {
	f.Helper()
	f.come("lea", "ses_lea", f.clock.Now().Add(48*time.Hour)) // older messages to all are not hers
	for range 3 {
		f.send(user("cyd"), long)
		f.send(user("ada"), brief)
		f.send(user("lea"), brief)
		f.send(bridge.Target{Users: []string{"bob", "dan"}}, brief)
		f.send(everybody, brief)
		f.send(everybody, long)
	}
	f.recall(f.send(user("bob"), long).ID)
	f.recall(f.send(bridge.Target{Users: []string{"lea", "cyd"}}, long).ID)
	f.about("later", user("dan"), brief)
	f.about("later", user("hal"), long)
	f.about("later", everybody, long)
	f.passing(user("nobody"))
}
