package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

func group(name string) bridge.Target { return bridge.Target{Group: name} }

func (f *fixture) member(group, user string, member bool) {
	f.Helper()
	f.ok("set member", f.store.SetMember(f.ctx, group, user, member))
}

func (f *fixture) members(group string) []string {
	f.Helper()
	return must(f.store.Members(f.ctx, group))(f, "members")
}

func (f *fixture) groupsOf(user string) []string {
	f.Helper()
	return must(f.store.Groups(f.ctx, user))(f, "groups")
}

// come makes a session present whose token names groups.
func (f *fixture) come(user, session string, until time.Time, groups ...string) {
	f.Helper()
	m := bridge.Member{User: user, Session: session, Transport: "websocket", Since: f.clock.Now(), Token: "of " + session, Issued: f.clock.Now(), Groups: groups, Until: until}
	must(f.table.Join(f.ctx, f.live, m))(f, "join")
}

var groups = []promise{
	{"membership is set, listed by name, taken back, and survives a restart", func(f *fixture) {
		for _, u := range []string{"zoe", "ada", "ada", "bob"} {
			f.member("g", u, true)
		}
		f.member("h", "ada", true)
		f.member("g", "bob", false)
		f.member("g", "nobody", false)
		for range 2 {
			f.equal("members", f.members("g"), []string{"ada", "zoe"})
			f.equal("groups", f.groupsOf("ada"), []string{"g", "h"})
			f.equal("of nobody", len(f.groupsOf("nobody")), 0)
			f.equal("of no group", len(f.members("no group")), 0)
			f.reopen()
		}
	}},
	{"a message to a group is kept for each of its members of that moment", func(f *fixture) {
		f.member("g", "ada", true)
		f.member("g", "bob", true)
		f.join("ada")
		m := f.message(group("g"))
		r := f.append(m)
		f.equal("recipients", len(r.Recipients), 2)
		f.equal("first", r.Recipients[0].User, "ada")
		f.equal("place", r.Recipients[1].Seq, uint64(1))
		f.member("g", "cyd", true)
		f.member("g", "bob", false)
		for u, n := range map[string]int{"ada": 1, "bob": 1, "cyd": 0} {
			f.equal(u, len(f.all(u, bridge.Position{}).Deliveries), n)
		}
		f.equal("heard", len(f.hub.of("ada")), 1)
		again := f.append(m)
		f.equal("duplicate", again.Duplicate, true)
		f.equal("its recipients", len(again.Recipients), 2)
	}},
	{"a message to a group without members is remembered and kept for nobody", func(f *fixture) {
		m := f.message(group("g"))
		f.equal("recipients", len(f.append(m).Recipients), 0)
		f.member("g", "ada", true)
		r := f.append(m)
		f.equal("duplicate", r.Duplicate, true)
		f.equal("recipients", len(r.Recipients), 0)
		f.equal("messages", len(f.all("ada", bridge.Position{}).Deliveries), 0)
	}},
	{"a group that a token names holds until the token expires, also while its user is away", func(f *fixture) {
		f.come("ada", "ses_1", f.clock.Now().Add(time.Hour), "g")
		f.equal("members", f.members("g"), []string{"ada"})
		f.come("ada", "ses_1", f.clock.Now().Add(2*time.Hour), "g") // refreshed
		f.ok("leave", f.live.Leave(f.ctx, bridge.DeliveryLog{Member: bridge.Member{User: "ada", Session: "ses_1"}}))
		f.clock.Advance(90 * time.Minute)
		f.reopen()
		f.equal("members", f.members("g"), []string{"ada"})
		f.equal("recipients", len(f.append(f.message(group("g"))).Recipients), 1)
		f.clock.Advance(time.Hour)
		f.equal("members", len(f.members("g")), 0)
		f.equal("groups", len(f.groupsOf("ada")), 0)
		f.equal("recipients", len(f.append(f.message(group("g"))).Recipients), 0)
	}},
	{"who is taken out of a group is out whatever a token said", func(f *fixture) {
		f.come("ada", "ses_1", f.clock.Now().Add(time.Hour), "g")
		f.member("g", "ada", true)
		f.member("g", "ada", false)
		f.equal("members", len(f.members("g")), 0)
	}},
	{"a full group takes no more members", func(f *fixture) {
		var fill sync.WaitGroup
		for part := range 50 {
			fill.Go(func() {
				for i := part; i < bridge.MaxGroupMembers; i += 50 {
					if err := f.store.SetMember(f.ctx, "g", fmt.Sprint("u", i), true); err != nil {
						f.Errorf("set member: %v", err)
						return
					}
				}
			})
		}
		fill.Wait()
		if err := f.store.SetMember(f.ctx, "g", "one more", true); !errors.Is(err, bridge.ErrGroupFull) {
			f.Fatalf("got %v, want ErrGroupFull", err)
		}
		f.member("g", "u7", true)
		f.member("g", "u7", false)
		f.member("g", "one more", true)
	}},
}
