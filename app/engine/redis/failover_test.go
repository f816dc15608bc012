package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
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
	var mu sync.Mutex
	answered := map[string][]string{}
	count := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, list := range answered {
			n += len(list)
		}
		return n
	}
	stop, load := make(chan struct{}), sync.WaitGroup{}
	for w := range 8 { // users of all primaries
		user := fmt.Sprint("u", w)
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := message(fmt.Sprintf("m_%d_%d", w, i), user)
				for {
					_, err := e.Append(deadline(t, 5*time.Second), m)
					if err == nil {
						break
					}
					if !errors.Is(err, bridge.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("append: %v", err)
						return
					}
				}
				mu.Lock()
				answered[user] = append(answered[user], m.ID)
				mu.Unlock()
			}
		})
	}
	redistest.Eventually(t, "some messages", func() bool { return count() > 400 })
	c.Nodes[0].Kill()
	redistest.Eventually(t, "the replica to be promoted", func() bool { return strings.HasPrefix(c.Replicas[0].Do("ROLE"), "master") })
	c.Nodes[0].Restart() // without a replica nothing would be answered for
	mu.Lock()
	before := map[string]int{}
	for user, list := range answered {
		before[user] = len(list)
	}
	mu.Unlock()
	redistest.Eventually(t, "every user to be served again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for user, list := range answered {
			if len(list) < before[user]+20 {
				return false
			}
		}
		return true
	})
	close(stop)
	load.Wait()
	for user, list := range answered {
		there := map[string]int{}
		for _, id := range stored(t, e, user) {
			there[id]++
		}
		for _, id := range list {
			if there[id] != 1 {
				t.Errorf("%s is there %d times", id, there[id])
			}
		}
	}
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
