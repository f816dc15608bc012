package redis_test

import (
	"strconv"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestRemoved(t *testing.T) {
	t.Parallel()
	t.Run("messages are known for as long as the mailbox is", removedIsKnown)
}

// Messages expire with their keys. Were what is known of removed ones to go at the same
// time, they would count as expired from then on, and their readers would be told of a
// gap.
func removedIsKnown(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	e, _ := quick(t, redis.Options{URL: s.URL()})
	for user, remove := range map[string]func(){
		"replaced": func() {
			for i := range 2 {
				m := message("topic_"+strconv.Itoa(i), "replaced")
				m.Topic = "t"
				appendTo(t, e, m)
			}
		},
		"recalled": func() {
			appendTo(t, e, message("recalled", "recalled"))
			expect.NoError(t, e.Recall(t.Context(), "recalled"))
		},
		"prolonged": func() {
			appendTo(t, e, message("brief", "prolonged"))
			expect.NoError(t, e.Recall(t.Context(), "brief"))
			m := message("long", "prolonged")
			m.Expires = m.Expires.Add(90 * 24 * time.Hour)
			appendTo(t, e, m)
		},
	} {
		remove()
		left := func(key string) time.Duration {
			ms, err := strconv.Atoi(s.Do("PTTL", key))
			expect.NoError(t, err)
			return time.Duration(ms) * time.Millisecond
		}
		state, removed := redis.StateAndRemovedKeys(e, user)
		if a, b := left(state), left(removed); b < a-time.Minute || b < 300*24*time.Hour {
			t.Errorf("%s: the mailbox is known for %v, and what was removed for %v", user, a, b)
		}
		p, err := e.Read(t.Context(), user, e.Life(), bridge.Position{}, 10, 1<<20)
		expect.NoError(t, err)
		if p.Lost() != (bridge.Lost{}) {
			t.Errorf("%s: lost %+v", user, p.Lost())
		}
	}
}
