package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge/enginetest"
	"hookbridge/app/engine/redis"
	"hookbridge/app/engine/redis/redistest"
)

// The same suite while primaries and replicas change places all the time.
func TestTheEngineKeepsThePromisesOfThePortWhileReplicasFailOver(t *testing.T) {
	c := redistest.StartReplicatedCluster(t)
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { ended <- n }()
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				if c.FailOver(i % 3) {
					n++
				}
			}
		}
	}()
	url := c.URL() // names every node, whichever is primary
	t.Run("with failovers", func(t *testing.T) { enginetest.Run(t, harness(url)) })
	close(stop)
	if n := <-ended; n < 5 {
		t.Errorf("%d failovers", n)
	} else {
		t.Logf("%d failovers", n)
	}
}

// A primary of a cluster is killed under load. With WAIT 1 the replica that the
// cluster promotes has all that was answered.
func TestWithWaitAClusterThatLosesAPrimaryLosesNothing(t *testing.T) {
	c := redistest.StartReplicatedCluster(t)
	e, err := redis.Open(t.Context(), redis.Options{URL: c.URL(), WaitReplicas: 1, Patience: 2 * time.Second})
	must(t, err)
	e.Listen(&hub{})
	t.Cleanup(func() { must(t, e.Close()) })
	f := send(t, e, "u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7") // of all primaries
	redistest.Eventually(t, "some messages", func() bool { return len(f.counts()) == 8 && f.counts()["u0"] > 50 })
	c.Nodes[0].Kill()
	redistest.Eventually(t, "the replica to be promoted", func() bool { return strings.HasPrefix(c.Replicas[0].Do("ROLE"), "master") })
	c.Nodes[0].Restart() // without a replica nothing would be answered for
	before := f.counts()
	redistest.Eventually(t, "every user to be served again", func() bool { return f.grown(before, 20) })
	f.stop()
}

// Sentinels promote the replica of a primary that is gone; machines follow.
func TestBehindSentinelsTheReplicaTakesOver(t *testing.T) {
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
	redistest.Eventually(t, "the replica to be promoted", func() bool { return strings.HasPrefix(replica.Do("ROLE"), "master") })
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
	redistest.Eventually(t, "the session to be present", func() bool { return online(t, e, "u") == 1 })
}
