package redis_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
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
	expect.NoError(t, err)
}

func in(t *testing.T, e *redis.Store, group string) []string {
	t.Helper()
	list, err := e.Members(deadline(t, 10*time.Second), group)
	expect.NoError(t, err)
	return list
}

func mustBeIn(t *testing.T, e *redis.Store, group string, users ...string) {
	t.Helper()
	if got := in(t, e, group); !slices.Equal(got, users) {
		t.Errorf("members of %s: %v, want %v", group, got, users)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	t.Run("that a refresh replaces stays good for a session on another machine", refreshLeavesOtherSessions)
	t.Run("that Redis does not take leaves the session as it was", refusedRefresh)
	t.Run("names its groups again where Redis has lost them", lostTokensAreSaidAgain)
}

func refreshLeavesOtherSessions(t *testing.T) {
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

func refusedRefresh(t *testing.T) {
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
		expect.Eventually(t, "the lease to lapse", func() bool { return online(t, other, "u") == 0 })
		proxy.Mend()
		expect.Eventually(t, "the session to be there with the token it had", func() bool {
			return online(t, other, "u") == 1 && slices.Equal(in(t, other, "ward"), []string{"u"})
		})
	}
	present(t, e, holding("u", "ses_1", "c"))
	mustBeIn(t, other, "ward")
	mustBeIn(t, other, "other")
}

func lostTokensAreSaidAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr)
	e, _ := quick(t, redis.Options{URL: proxy.URL(), Lease: mortal})
	other, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("kept", "ses_1", "a", "ward"))
	present(t, e, holding("taken", "ses_2", "b", "ward"))
	expect.NoError(t, e.SetMember(t.Context(), "ward", "taken", false))
	for _, k := range strings.Fields(s.Do("KEYS", "*}:K")) {
		s.Do("HDEL", k, "a") // as on a replica that had not heard of it
	}
	mustBeIn(t, other, "ward")
	proxy.Cut()
	expect.Eventually(t, "the lease to lapse", func() bool { return online(t, other, "kept") == 0 })
	proxy.Mend()
	expect.Eventually(t, "the token to have a say again", func() bool { return slices.Equal(in(t, other, "ward"), []string{"kept"}) })
}
