package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// token is what a session's token says, in the tests of rights.
type token struct {
	name   string // its fingerprint
	id     string
	issued time.Time
	until  time.Time
	groups []string
}

// token makes one that lives for an hour.
func (f *fixture) token(name string, groups ...string) token {
	return token{name: name, issued: f.clock.Now(), until: f.clock.Now().Add(time.Hour), groups: groups}
}

// with is a session of a user that has a token.
func (f *fixture) with(user, session string, t token) bridge.Member {
	return bridge.Member{User: user, Session: session, Transport: "websocket", Since: f.clock.Now(),
		Token: t.name, TokenID: t.id, Issued: t.issued, Groups: t.groups, Until: t.until}
}

// present makes a session present with a token, or refreshes it with another.
func (f *fixture) present(user, session string, t token) {
	f.Helper()
	must(f.table.Join(f.ctx, f.live, f.with(user, session, t)))(f, "join")
}

func (f *fixture) refused(want error, m bridge.Member) {
	f.Helper()
	if _, err := f.table.Join(f.ctx, f.live, m); !errors.Is(err, want) {
		f.Fatalf("join: got %v, want %v", err, want)
	}
}

func (f *fixture) revoke(user string, r bridge.Revocation) {
	f.Helper()
	f.ok("revoke", f.store.Revoke(f.ctx, user, r))
}

// comprises checks who is in a group by each way that there is to know it, now and
// after a restart: its list, the users' own, and whom a message goes to.
func (f *fixture) comprises(group string, users ...string) {
	f.Helper()
	f.equal("members of "+group, f.members(group), users)
	m := f.message(bridge.Target{Group: group})
	got := []string{}
	for _, r := range f.append(m).Recipients {
		got = append(got, r.User)
	}
	f.equal("recipients of a message to "+group, got, users)
	for _, u := range users {
		in := false
		for _, g := range f.groupsOf(u) {
			in = in || g == group
		}
		f.equal(u+"'s own list has "+group, in, true)
	}
}

var rights = []promise{
	{"a user is in the groups of each of their tokens until that one ends", func(f *fixture) {
		long, short := f.token("long", "ward", "all"), f.token("short", "ward", "night")
		short.until = f.clock.Now().Add(time.Minute)
		f.present("ada", "ses_1", long)
		f.present("ada", "ses_2", short)
		f.comprises("ward", "ada")
		f.comprises("night", "ada")
		f.clock.Advance(2 * time.Minute)
		f.comprises("night")
		f.equal("groups", f.groupsOf("ada"), []string{"all", "ward"})
		f.reopen()
		f.comprises("ward", "ada")
		f.comprises("night")
		f.clock.Advance(time.Hour)
		f.comprises("ward")
		f.equal("groups", len(f.groupsOf("ada")), 0)
	}},
	{"another token of the user does not prolong what a token says", func(f *fixture) {
		short, long := f.token("short", "ward"), f.token("long", "other")
		short.until = f.clock.Now().Add(time.Minute)
		f.present("ada", "ses_1", short)
		f.present("ada", "ses_2", long)
		f.clock.Advance(2 * time.Minute)
		f.comprises("ward")
		f.comprises("other", "ada")
	}},
	{"a token that is presented again later holds until the latest end that it was given", func(f *fixture) {
		t := f.token("t", "ward")
		f.present("ada", "ses_1", t)
		t.until = t.until.Add(time.Minute) // it was let in within the leeway
		f.present("ada", "ses_2", t)
		t.until = t.until.Add(-2 * time.Minute)
		f.present("ada", "ses_3", t)
		f.clock.Advance(time.Hour + 30*time.Second)
		f.comprises("ward", "ada")
		f.clock.Advance(time.Minute)
		f.comprises("ward")
	}},
	{"a session that only leaves takes nothing back", func(f *fixture) {
		f.present("ada", "ses_1", f.token("t", "ward"))
		f.leave(bridge.DeliveryLog{Member: bridge.Member{User: "ada", Session: "ses_1"}})
		f.comprises("ward", "ada")
		f.present("ada", "ses_2", f.token("u"))
		f.comprises("ward", "ada")
	}},
	{"a refresh ends what the session's token before has said", func(f *fixture) {
		f.present("ada", "ses_1", f.token("a", "ward", "stays"))
		f.present("ada", "ses_1", f.token("b", "stays", "comes"))
		f.comprises("ward")
		f.comprises("stays", "ada")
		f.comprises("comes", "ada")
		f.present("ada", "ses_1", f.token("c"))
		for range 2 {
			f.equal("groups", len(f.groupsOf("ada")), 0)
			f.comprises("stays")
			f.reopen()
		}
	}},
	{"a refresh leaves the token before to another live session that has it", func(f *fixture) {
		a := f.token("a", "ward")
		f.present("ada", "ses_1", a)
		f.present("ada", "ses_2", a)
		f.present("ada", "ses_1", f.token("b"))
		f.comprises("ward", "ada")
		f.present("ada", "ses_2", f.token("b"))
		f.comprises("ward")
		f.present("ada", "ses_3", a) // it is good, and said again
		f.comprises("ward", "ada")
	}},
	{"a refresh does not leave the token before to a session that is gone", func(f *fixture) {
		a := f.token("a", "ward")
		f.present("ada", "ses_1", a)
		f.present("ada", "ses_2", a)
		f.leave(bridge.DeliveryLog{Member: bridge.Member{User: "ada", Session: "ses_2"}})
		f.present("ada", "ses_1", f.token("b"))
		f.comprises("ward")
	}},
	{"a revocation by id takes back what that token has said, and no more", func(f *fixture) {
		stolen, own, nameless := f.token("a", "ward", "night"), f.token("b", "night"), f.token("c", "home")
		stolen.id, own.id = "stolen", "own"
		f.present("ada", "ses_1", stolen)
		f.present("ada", "ses_2", own)
		f.present("ada", "ses_3", nameless)
		f.present("bob", "ses_4", f.token("d", "ward"))
		f.revoke("ada", bridge.Revocation{TokenID: "stolen"})
		for range 2 {
			f.comprises("ward", "bob")
			f.comprises("night", "ada")
			f.comprises("home", "ada")
			f.reopen()
		}
		f.refused(bridge.ErrRevoked, f.with("ada", "ses_5", stolen))
		f.comprises("ward", "bob")
	}},
	{"a revocation by time takes back what older tokens have said, and those without a time", func(f *fixture) {
		old, undated, fresh := f.token("a", "old"), f.token("b", "undated"), f.token("c", "fresh")
		old.issued, undated.issued = f.clock.Now().Add(-time.Minute), time.Time{}
		f.present("ada", "ses_1", old)
		f.present("ada", "ses_2", undated)
		f.present("ada", "ses_3", fresh)
		f.revoke("ada", bridge.Revocation{IssuedBefore: f.clock.Now()})
		for range 2 {
			f.equal("groups", f.groupsOf("ada"), []string{"fresh"})
			f.comprises("old")
			f.comprises("undated")
			f.reopen()
		}
		f.refused(bridge.ErrRevoked, f.with("ada", "ses_4", old))
		f.refused(bridge.ErrRevoked, f.with("ada", "ses_4", undated))
	}},
	{"a token that was revoked makes nobody present", func(f *fixture) {
		t := f.token("a", "ward")
		t.id = "t"
		f.revoke("ada", bridge.Revocation{TokenID: "t"})
		f.refused(bridge.ErrRevoked, f.with("ada", "ses_1", t))
		f.comprises("ward")
		f.equal("presence", f.presence("ada")[0], bridge.Presence{User: "ada"})
	}},
	{"a refresh with a revoked token leaves the session with the one it has", func(f *fixture) {
		good, bad := f.token("a", "ward"), f.token("b", "other")
		bad.id = "bad"
		f.present("ada", "ses_1", good)
		f.revoke("ada", bridge.Revocation{TokenID: "bad"})
		f.refused(bridge.ErrRevoked, f.with("ada", "ses_1", bad))
		f.equal("sessions", f.presence("ada")[0].Sessions, 1)
		f.comprises("ward", "ada")
		f.comprises("other")
		f.present("ada", "ses_1", f.token("c")) // which ends the first, not the second
		f.comprises("ward")
	}},
	{"an operator's word about a group is apart from that of tokens", func(f *fixture) {
		f.present("ada", "ses_1", f.token("a", "ward"))
		f.member("ward", "ada", true)
		f.revoke("ada", bridge.Revocation{IssuedBefore: f.clock.Now().Add(time.Second)})
		f.comprises("ward", "ada")
		f.clock.Advance(2 * time.Hour)
		f.comprises("ward", "ada")
		f.member("ward", "ada", false)
		f.comprises("ward")
	}},
	{"who is taken out of a group is out until a token says so again", func(f *fixture) {
		a, b := f.token("a", "ward", "night"), f.token("b", "ward")
		f.present("ada", "ses_1", a)
		f.present("ada", "ses_2", b)
		f.member("ward", "ada", false)
		for range 2 {
			f.comprises("ward")
			f.comprises("night", "ada")
			f.reopen()
		}
		f.present("ada", "ses_1", a)
		f.comprises("ward", "ada")
	}},
	{"an erasure takes back what tokens have said, of all of the user and of nobody else", func(f *fixture) {
		f.present("ada", "ses_1", f.token("a", "ward"))
		f.present("ada", "ses_2", f.token("b", "ward", "night"))
		f.leave(bridge.DeliveryLog{Member: bridge.Member{User: "ada", Session: "ses_2"}})
		f.present("ada*", "ses_3", f.token("c", "ward")) // a pattern, to a careless eye
		f.present("adam", "ses_4", f.token("d", "ward"))
		f.erase("ada*")
		f.comprises("ward", "ada", "adam")
		f.erase("ada")
		for range 2 {
			f.comprises("ward", "adam")
			f.comprises("night")
			f.reopen()
		}
	}},
	{"nothing that a session from before the erasure does writes the user down again", func(f *fixture) {
		f.present("u", "ses_1", f.token("a", "ward"))
		f.send(everybody, time.Hour)
		m := f.send(user("u"), time.Hour)
		before := f.with("u", "ses_1", f.token("b", "ward"))
		coming := f.with("u", "ses_2", f.token("c", "night"))
		seen := f.clock.Now()
		f.clock.Advance(time.Second)
		f.erase("u")
		f.ack("u", bridge.Position{Mailbox: 1, Broadcast: 1})
		if err := f.store.Seen(f.ctx, "u", "ses_1", m.ID, seen); err != nil && !errors.Is(err, bridge.ErrUnknown) {
			f.Fatal(err)
		}
		f.refused(bridge.ErrErased, before)
		f.refused(bridge.ErrErased, coming)
		f.leave(logOf("u", "ses_1", f.clock.Now()))
		for range 2 {
			f.equal("presence", f.presence("u")[0], bridge.Presence{User: "u"})
			f.equal("delivery logs", len(f.logs("u")), 0)
			f.equal("groups", len(f.groupsOf("u")), 0)
			f.comprises("ward")
			f.comprises("night")
			f.equal("fates", len(f.lookup(m.ID).Recipients), 0)
			f.reopen() // what was to be written later is written by now
		}
		all := f.send(everybody, time.Hour)
		f.equal("whose a message to all is", len(f.lookup(all.ID).Recipients), 0)
		f.present("u", "ses_3", f.token("d", "ward")) // who comes back is welcome
		f.comprises("ward", "u")
	}},
	{"tokens that come, go and are revoked at the same time leave what the last word says", func(f *fixture) {
		f.present("keep", "ses_keep", f.token("keep", "ward"))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				u := fmt.Sprint("u", i%4)
				for n := range 12 {
					t := f.token(fmt.Sprint(u, "-", n, "-", i/4), "ward", fmt.Sprint("g", n%3))
					t.id = t.name
					m := f.with(u, fmt.Sprint("ses_", i), t)
					if _, err := f.table.Join(f.ctx, f.live, m); err != nil && !errors.Is(err, bridge.ErrRevoked) {
						f.Errorf("join: %v", err)
					}
					switch n % 4 {
					case 1:
						if err := f.store.Revoke(f.ctx, u, bridge.Revocation{TokenID: t.id}); err != nil {
							f.Errorf("revoke: %v", err)
						}
					case 3:
						if err := f.store.SetMember(f.ctx, "ward", u, false); err != nil {
							f.Errorf("set member: %v", err)
						}
					}
				}
			})
		}
		wg.Wait()
		for i := range 8 {
			u := fmt.Sprint("u", i%4)
			f.present(u, fmt.Sprint("ses_", i), f.token("last of "+u, "last"))
		}
		f.comprises("ward", "keep")
		f.comprises("last", "u0", "u1", "u2", "u3")
		for i := range 4 {
			f.equal("groups", f.groupsOf(fmt.Sprint("u", i)), []string{"last"})
		}
		for i := range 4 {
			f.revoke(fmt.Sprint("u", i), bridge.Revocation{IssuedBefore: f.clock.Now().Add(time.Second)})
		}
		f.comprises("last")
	}},
	{"a revocation that meets a join leaves no right behind", func(f *fixture) {
		for n := range 20 {
			t := f.token(fmt.Sprint("t", n), "ward")
			t.id = t.name
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := f.table.Join(f.ctx, f.live, f.with("ada", "ses_1", t)); err != nil && !errors.Is(err, bridge.ErrRevoked) {
					f.Errorf("join: %v", err)
				}
			})
			wg.Go(func() {
				if err := f.store.Revoke(f.ctx, "ada", bridge.Revocation{TokenID: t.id}); err != nil {
					f.Errorf("revoke: %v", err)
				}
			})
			wg.Wait()
			f.comprises("ward")
		}
	}},
	{"an erasure that meets a join leaves all of it or nothing", func(f *fixture) {
		for n := range 10 {
			f.clock.Advance(time.Second)
			m := f.with("ada", fmt.Sprint("ses_", n), f.token(fmt.Sprint("t", n), "ward")) // one that was erased never joins again
			var wg sync.WaitGroup
			var joined error
			wg.Go(func() { _, joined = f.table.Join(f.ctx, f.live, m) })
			wg.Go(func() {
				if err := f.store.Erase(f.ctx, "ada"); err != nil {
					f.Errorf("erase: %v", err)
				}
			})
			wg.Wait()
			if joined != nil && !errors.Is(joined, bridge.ErrErased) {
				f.Fatalf("join: %v", joined)
			}
			if f.presence("ada")[0].Sessions == 1 {
				f.comprises("ward", "ada")
			} else {
				f.comprises("ward")
			}
		}
	}},
}
