package redis_test

import (
	"fmt"
	"testing"
	"time"

	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

// A primary of a cluster is killed under load. With WAIT 1 the replica that the
// cluster promotes has all that was answered.
func TestWithWaitAClusterThatLosesAPrimaryLosesNothing(t *testing.T) {
	heavy(t)
	c := redistest.StartReplicatedCluster(t, 3*time.Second)
	e, err := redis.Open(t.Context(), redis.Options{URL: c.URL(), WaitReplicas: 1, Patience: 2 * time.Second})
	must(t, err)
	e.Listen(&hub{})
	t.Cleanup(func() { must(t, e.Close()) })
	f := send(t, e, "u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7") // of all primaries
	redistest.Eventually(t, "some messages", func() bool { return len(f.counts()) == 8 && f.counts()["u0"] > 50 })
	c.Nodes[0].Kill()
	redistest.Eventually(t, "the replica to be promoted", c.Replicas[0].Reigns)
	c.Nodes[0].Restart() // without a replica nothing would be answered for
	before := f.counts()
	redistest.Eventually(t, "every user to be served again", func() bool { return f.grown(before, 20) })
	f.stop()
}

// Sentinels promote the replica of a primary that is gone; machines follow.
func TestBehindSentinelsTheReplicaTakesOver(t *testing.T) {
	heavy(t)
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	url := redistest.StartSentinel(t, primary)
	sure, _ := quick(t, redis.Options{URL: url, WaitReplicas: 1})
	e, h := quick(t, redis.Options{URL: url})
	join(t, e, "u", "ses_1")
	for i := range 20 {
		appendTo(t, sure, message(fmt.Sprint("m", i), "u"))
	}
	primary.Kill()
	redistest.Eventually(t, "the replica to be promoted", replica.Reigns)
	after := message("after", "u")
	redistest.Eventually(t, "messages to be taken again", func() bool {
		_, err := e.Append(deadline(t, 5*time.Second), after)
		return err == nil
	})
	if got := stored(t, e, "u"); len(got) != 21 {
		t.Errorf("%v", got)
	}
	redistest.Eventually(t, "the session to hear of it", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.behind["u"].Mailbox == 21 || len(h.heard) > 0 && h.heard[len(h.heard)-1] == "after"
	})
	redistest.Eventually(t, "the session to be present", func() bool { return presentNow(t, e, "u") == 1 })
}
