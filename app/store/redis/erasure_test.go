package redis_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// keyspaceHolds looks through every key and value there is.
func keyspaceHolds(s *redistest.Server, text string) bool {
	return s.Do("EVAL", `
		for _, k in ipairs(redis.call('KEYS', '*')) do
			if string.find(k, ARGV[1], 1, true) then return 1 end
			local kind, v = redis.call('TYPE', k).ok, {}
			if kind == 'string' then v = { redis.call('GET', k) }
			elseif kind == 'hash' then v = redis.call('HGETALL', k)
			elseif kind == 'set' then v = redis.call('SMEMBERS', k)
			elseif kind == 'zset' then v = redis.call('ZRANGE', k, 0, -1)
			elseif kind == 'list' then v = redis.call('LRANGE', k, 0, -1)
			elseif kind == 'stream' then for _, e in ipairs(redis.call('XRANGE', k, '-', '+')) do v[#v + 1] = e[2][4] end end
			for _, one in ipairs(v) do if string.find(one, ARGV[1], 1, true) then return 1 end end
		end
		return 0`, "0", text) == "1"
}

func TestErasure(t *testing.T) {
	t.Parallel()
	t.Run("leaves nothing of the user in Redis", erasureLeavesNothing)
	t.Run("leaves no name in the lists of groups", erasureLeavesNoGroups)
	t.Run("makes acks of the user write nothing", erasureEndsAcks)
	t.Run("reads the user's own ids only", erasureReadsOwnIDs)
	t.Run("finds ids that are on no list", erasureFindsUnlistedIDs)
}

func erasureLeavesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	const canary = "canary-of-an-erased-user"
	join(t, e, "name-of-an-erased-user", "ses_1")
	for i := range 20 {
		m := message(fmt.Sprint("m", i), "name-of-an-erased-user")
		if i%3 == 0 {
			m.To = bridge.Target{Users: []string{"name-of-an-erased-user", "other"}}
		}
		m.Topic = fmt.Sprint("topic-", i%4)
		m.Event = fmt.Appendf(nil, `{"id":%q,"data":%q}`, m.ID, canary)
		m.Encode()
		appendTo(t, e, m)
	}
	expect.NoError(t, e.SetMember(deadline(t, 5*time.Second), "g", "name-of-an-erased-user", true))
	for _, text := range []string{canary, "name-of-an-erased-user"} {
		if !keyspaceHolds(s, text) {
			t.Fatalf("%s was not there to begin with", text)
		}
	}
	expect.NoError(t, e.Erase(deadline(t, 10*time.Second), "other"))
	expect.NoError(t, e.Erase(deadline(t, 10*time.Second), "name-of-an-erased-user"))
	for _, text := range []string{canary, "name-of-an-erased-user"} {
		if keyspaceHolds(s, text) {
			t.Errorf("%s is still there", text)
		}
	}
}

func erasureLeavesNoGroups(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("canary-user", "ses_1", "a", "ward"))
	present(t, e, holding("canary-user", "ses_1", "b", "ward", "night")) // "a" is over
	expect.NoError(t, e.SetMember(t.Context(), "set", "canary-user", true))
	expect.NoError(t, e.Revoke(t.Context(), "canary-user", bridge.Revocation{TokenID: "b"}))
	present(t, e, holding("canary-user", "ses_2", "c", "home"))
	expect.NoError(t, e.Erase(t.Context(), "canary-user"))
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

func erasureEndsAcks(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	present(t, e, holding("u", "ses_1", "a", "ward"))
	appendTo(t, e, message("m", "u"))
	appendTo(t, e, message("all", ""))
	expect.NoError(t, e.Erase(t.Context(), "u"))
	state := func() (all string) {
		for _, k := range strings.Fields(s.Do("KEYS", "*{u*}:h")) {
			all += s.Do("HGETALL", k)
		}
		return all
	}
	before := state()
	expect.NoError(t, e.Ack(t.Context(), "u", "ses_1", e.Life(), bridge.Position{Mailbox: 1, Broadcast: 1}))
	expect.NoError(t, e.Ack(t.Context(), "never here", "ses_1", e.Life(), bridge.Position{Mailbox: 1, Broadcast: 1}))
	if after := state(); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
}

// Erasing a user takes as long as that user's own ids do, not as all ids.
func erasureReadsOwnIDs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	var ms []*bridge.Message
	for i := range 3000 {
		ms = append(ms, message(fmt.Sprint("other-", i), fmt.Sprint("user-", i%50)))
	}
	for _, a := range e.AppendMany(deadline(t, 20*time.Second), ms) {
		expect.NoError(t, a.Err)
	}
	passing := message("passing", "u")
	passing.Expires = time.Time{}
	appendTo(t, e, passing)
	appendTo(t, e, message("mine", "u"))
	appendTo(t, e, large("ours", 500, "u", "user-1"))
	gets := calls(t, s, "get")
	expect.NoError(t, e.Erase(t.Context(), "u"))
	if n := calls(t, s, "get") - gets; n > 200 { // beside those of machines that say they live
		t.Errorf("it has read %d keys", n)
	}
	if n := calls(t, s, "scan"); n != 0 {
		t.Errorf("it has looked through all keys, in %d pages", n)
	}
	for id, want := range map[string]string{"passing": "[]", "mine": "[]", "ours": "[user-1]"} {
		rec, err := e.Lookup(t.Context(), id)
		expect.NoError(t, err)
		var users []string
		for _, f := range rec.Recipients {
			users = append(users, f.User)
		}
		if fmt.Sprint(users) != want {
			t.Errorf("%s is remembered for %v", id, users)
		}
	}
}

// Ids from before there were lists of them are looked for everywhere, as long as
// there may be some.
func erasureFindsUnlistedIDs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	appendTo(t, e, message("mine", "u"))
	for _, k := range strings.Fields(s.Do("KEYS", "*}:I*")) {
		s.Do("DEL", k)
	}
	s.Do("SET", redis.IndexedKey(e), strconv.FormatInt(time.Now().UnixMilli(), 10))
	expect.NoError(t, e.Erase(t.Context(), "u"))
	rec, err := e.Lookup(t.Context(), "mine")
	expect.NoError(t, err)
	if len(rec.Recipients) != 0 {
		t.Errorf("%+v", rec.Recipients)
	}
}
