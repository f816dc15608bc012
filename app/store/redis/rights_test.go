package redis_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// holding is a session with a token of that name, which names groups.
func holding(user, session, token string, groups ...string) bridge.Member {
	return bridge.Member{User: user, Session: session, Transport: "websocket", Since: time.Now(), Issued: time.Now(),
		Token: token, TokenID: token, Groups: groups, Until: time.Now().Add(time.Hour)}
}

func present(t *testing.T, e *redis.Store, m bridge.Member) {
	t.Helper()
	_, err := enter(deadline(t, 10*time.Second), e, m)
	must(t, err)
}

func in(t *testing.T, e *redis.Store, group string) []string {
	t.Helper()
	list, err := e.Members(deadline(t, 10*time.Second), group)
	must(t, err)
	return list
}

func mustBeIn(t *testing.T, e *redis.Store, group string, users ...string) {
	t.Helper()
	if got := in(t, e, group); !slices.Equal(got, users) {
		t.Errorf("members of %s: %v, want %v", group, got, users)
	}
}

func TestARefreshLeavesTheTokenBeforeToASessionOnAnotherMachine(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	here, _ := quick(t, redis.Options{URL: s.URL()})
	there, _ := quick(t, redis.Options{URL: s.URL()})
	a := holding("u", "ses_1", "a", "ward")
	b := a
	b.Session = "ses_2"
	present(t, here, a)
	present(t, there, b)
	present(t, here, holding("u", "ses_1", "b"))
	mustBeIn(t, here, "ward", "u")
	present(t, there, holding("u", "ses_2", "c"))
	mustBeIn(t, here, "ward")
}

func TestARefreshThatRedisDoesNotTakeLeavesTheSessionAsItWas(t *testing.T) {
	heavy(t)
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	e, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: mortal})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("u", "ses_1", "a", "ward"))
	for _, held := range []bool{false, true} { // whether Redis hears of it after all, too late
		proxy.Cut()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := enter(ctx, e, holding("u", "ses_1", "b", "other"))
		cancel()
		if err == nil {
			t.Fatal("a refresh was taken by a Redis that is away")
		}
		if !held {
			proxy.Drop()
		}
		// Others take this machine for dead by then, so that it says all again.
		redistest.Eventually(t, "the lease to lapse", func() bool { return online(t, other, "u") == 0 })
		proxy.Mend()
		redistest.Eventually(t, "the session to be there with the token it had", func() bool {
			return online(t, other, "u") == 1 && slices.Equal(in(t, other, "ward"), []string{"u"})
		})
	}
	present(t, e, holding("u", "ses_1", "c"))
	mustBeIn(t, other, "ward")
	mustBeIn(t, other, "other")
}

func TestWhatTokensSaidIsSaidAgainWhereRedisHasLostIt(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	e, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: mortal})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("kept", "ses_1", "a", "ward"))
	present(t, e, holding("taken", "ses_2", "b", "ward"))
	must(t, e.SetMember(t.Context(), "ward", "taken", false))
	for _, k := range strings.Fields(s.Do("KEYS", "*}:K")) {
		s.Do("HDEL", k, "a") // as on a replica that had not heard of it
	}
	mustBeIn(t, other, "ward")
	proxy.Cut()
	redistest.Eventually(t, "the lease to lapse", func() bool { return online(t, other, "kept") == 0 })
	proxy.Mend()
	redistest.Eventually(t, "the token to have a say again", func() bool { return slices.Equal(in(t, other, "ward"), []string{"kept"}) })
}

func TestAnErasureLeavesNoNameInTheListsOfGroups(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("canary-user", "ses_1", "a", "ward"))
	present(t, e, holding("canary-user", "ses_1", "b", "ward", "night")) // "a" is over
	must(t, e.SetMember(t.Context(), "set", "canary-user", true))
	must(t, e.Revoke(t.Context(), "canary-user", bridge.Revocation{TokenID: "b"}))
	present(t, e, holding("canary-user", "ses_2", "c", "home"))
	must(t, e.Erase(t.Context(), "canary-user"))
	commands := map[string][]string{"zset": {"ZRANGE"}, "set": {"SMEMBERS"}, "hash": {"HGETALL"}, "list": {"LRANGE"}}
	for _, k := range strings.Fields(s.Do("KEYS", "*")) {
		cmd := append(commands[s.Do("TYPE", k)], k)
		if len(cmd) == 1 || strings.HasSuffix(k, "}:R") { // a string; revocations outlive their users
			continue
		}
		if cmd[0] == "ZRANGE" || cmd[0] == "LRANGE" {
			cmd = append(cmd, "0", "-1")
		}
		if strings.Contains(s.Do(cmd...), "canary-user") {
			t.Errorf("%s still has the name", k)
		}
	}
}

func TestAnAckOfAnErasedUserWritesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("u", "ses_1", "a", "ward"))
	appendTo(t, e, message("m", "u"))
	appendTo(t, e, message("all", ""))
	must(t, e.Erase(t.Context(), "u"))
	state := func() (all string) {
		for _, k := range strings.Fields(s.Do("KEYS", "*{u*}:h")) {
			all += s.Do("HGETALL", k)
		}
		return all
	}
	before := state()
	must(t, e.Ack(t.Context(), "u", e.Life(), bridge.Position{Mailbox: 1, Broadcast: 1}))
	must(t, e.Ack(t.Context(), "never here", e.Life(), bridge.Position{Mailbox: 1, Broadcast: 1}))
	if after := state(); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
}
