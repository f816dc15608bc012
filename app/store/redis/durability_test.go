package redis_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestSettingsThatBreakPromisesAreWarnedOf(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
	var logs bytes.Buffer
	e, err := redis.Open(t.Context(), redis.Options{URL: s.URL(), Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	must(t, err)
	must(t, e.Close())
	for _, want := range []string{"noeviction", "appendonly"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("nothing is said of %s: %s", want, logs.String())
		}
	}
}

func TestWithWaitAMessageOutlivesTheLossOfThePrimary(t *testing.T) {
	heavy(t)
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	e, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1})
	var kept []string
	for i := range 50 {
		m := message(fmt.Sprint("m", i), "u")
		if i%10 == 0 {
			m.To = bridge.Target{Users: []string{"u", "v"}}
		}
		appendTo(t, e, m)
		kept = append(kept, m.ID)
	}
	primary.Kill()
	replica.Do("REPLICAOF", "NO", "ONE")
	promoted, _ := quick(t, redis.Options{URL: replica.URL()})
	if got := stored(t, promoted, "u"); fmt.Sprint(got) != fmt.Sprint(kept) {
		t.Errorf("of %v there are %v", kept, got)
	}
	if promoted.Epoch() != e.Epoch() {
		t.Error("cursors would find another store")
	}
}

func TestWithoutEnoughReplicasAMessageIsNotAnsweredForAndIsFoundWhenSentAgain(t *testing.T) {
	heavy(t)
	primary := redistest.Start(t)
	impatient, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1, Patience: 200 * time.Millisecond})
	m := message("m", "u")
	if _, err := impatient.Append(deadline(t, 10*time.Second), m); !errors.Is(err, bridge.ErrUnavailable) {
		t.Fatalf("without a replica: %v", err)
	}
	redistest.StartReplica(t, primary)
	e, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1})
	if r := appendTo(t, e, m); !r.Duplicate || r.Recipients[0].Seq != 1 {
		t.Errorf("%+v", r)
	}
}

// A duplicate's answer is a promise, too: it waits for replicas to have what was
// written before.
func TestADuplicateIsNotAnsweredForUntilReplicasHaveIt(t *testing.T) {
	heavy(t)
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	const impatience = 250 * time.Millisecond
	e, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1, Patience: impatience})
	one, several := message("one", "u"), message("several", "u")
	several.To = bridge.Target{Users: []string{"u", "v"}}
	// The sender's retry comes to another machine, whose connection has written
	// nothing that replicas could lack.
	other, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1, Patience: impatience})
	patient, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1})
	appendTo(t, patient, message("before", "u"))
	replica.Pause()
	for i, m := range []*bridge.Message{one, one, several, several} {
		if r, err := []*redis.Store{e, other}[i%2].Append(deadline(t, 10*time.Second), m); !errors.Is(err, bridge.ErrUnavailable) {
			t.Errorf("%s, with a replica that is behind: %+v %v", m.ID, r, err)
		}
	}
	replica.Continue()
	for _, m := range []*bridge.Message{one, several} {
		if r := appendTo(t, patient, m); !r.Duplicate {
			t.Errorf("%s: %+v", m.ID, r)
		}
	}
	primary.Kill()
	replica.Do("REPLICAOF", "NO", "ONE")
	promoted, _ := quick(t, redis.Options{URL: replica.URL()})
	if got := stored(t, promoted, "u"); fmt.Sprint(got) != "[before one several]" {
		t.Errorf("%v", got)
	}
}

func TestMachinesThatStartTogetherShareOneStore(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	epochs := make(chan string, 12)
	var all sync.WaitGroup
	for range cap(epochs) {
		all.Go(func() {
			e, err := redis.Open(t.Context(), redis.Options{URL: s.URL()})
			if err != nil {
				t.Error(err)
				return
			}
			epochs <- e.Epoch()
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(epochs)
	first := <-epochs
	for other := range epochs {
		if other != first || first == "" {
			t.Errorf("epochs %q and %q", first, other)
		}
	}
}

func TestAStoreOfANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("SET", "hookbridge:{machines}:format", "2")
	if _, err := redis.Open(t.Context(), redis.Options{URL: s.URL()}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("%v", err)
	}
}

func TestMembersThatANewerVersionAddsArePassedOver(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	appendTo(t, e, message("m", "u"))
	// What a newer machine would add: a member with a tag that nobody knows yet.
	key := strings.Fields(s.Do("KEYS", "hookbridge:{u*}:m"))[0]
	s.Do("EVAL", `local e = redis.call('XRANGE', KEYS[1], '-', '+')[1]
		redis.call('DEL', KEYS[1])
		redis.call('XADD', KEYS[1], e[1], 'x', e[2][2], 'd', e[2][4] .. string.char(200, 3) .. 'new')
		return 1`, "1", key)
	if got := stored(t, e, "u"); len(got) != 1 || got[0] != "m" {
		t.Errorf("%v", got)
	}
}

func TestNothingOfAnErasedUserIsLeftInRedis(t *testing.T) {
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
	must(t, e.SetMember(deadline(t, 5*time.Second), "g", "name-of-an-erased-user", true))
	for _, text := range []string{canary, "name-of-an-erased-user"} {
		if !keyspaceHolds(s, text) {
			t.Fatalf("%s was not there to begin with", text)
		}
	}
	must(t, e.Erase(deadline(t, 10*time.Second), "other"))
	must(t, e.Erase(deadline(t, 10*time.Second), "name-of-an-erased-user"))
	for _, text := range []string{canary, "name-of-an-erased-user"} {
		if keyspaceHolds(s, text) {
			t.Errorf("%s is still there", text)
		}
	}
}

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
