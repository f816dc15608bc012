package redis_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestReplicas(t *testing.T) {
	t.Parallel()
	t.Run("have what was answered when the primary is lost", replicaHasTheMessage)
	t.Run("that are too few keep a message from being answered, and a retry finds it", tooFewReplicas)
	t.Run("have a message before its duplicate is answered, and an ack before it is", duplicateWaitsForReplicas)
	t.Run("that a cluster promotes have what was answered", clusterPromotesReplica)
	t.Run("that Sentinels promote are followed", sentinelsPromoteReplica)
	t.Run("that are promoted silently are found", demotedPrimaryIsLeft)
}

func replicaHasTheMessage(t *testing.T) {
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

func tooFewReplicas(t *testing.T) {
	heavy(t)
	primary := redistest.Start(t)
	impatient, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1, Patience: 200 * time.Millisecond})
	m := message("m", "u")
	if _, err := impatient.Append(deadline(t, 10*time.Second), m); !errors.Is(err, bridge.ErrUnavailable) {
		t.Fatalf("without a replica: %v", err)
	}
	redistest.StartReplica(t, primary)
	e, _ := quick(t, redis.Options{URL: primary.URL(), WaitReplicas: 1, Patience: 20 * time.Second}) // the replica may take its time
	if r := appendTo(t, e, m); !r.Duplicate || r.Recipients[0].Seq != 1 {
		t.Errorf("%+v", r)
	}
}

// A duplicate's answer is a promise, too: it waits for replicas to have what was
// written before.
func duplicateWaitsForReplicas(t *testing.T) {
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
	if err := e.Ack(deadline(t, 10*time.Second), "u", "", e.Life(), bridge.Position{Mailbox: 1}); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("an ack, with a replica that is behind: %v", err)
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

// A primary of a cluster is killed under load. With WAIT 1 the replica that the
// cluster promotes has all that was answered.
func clusterPromotesReplica(t *testing.T) {
	heavy(t)
	c := redistest.StartReplicatedCluster(t, 3*time.Second)
	e, err := redis.Open(t.Context(), redis.Options{URL: c.URL(), WaitReplicas: 1, Patience: 2 * time.Second})
	expect.NoError(t, err)
	e.Listen(&hub{})
	t.Cleanup(func() { expect.NoError(t, e.Close()) })
	f := send(t, e, "u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7") // of all primaries
	expect.Eventually(t, "some messages", func() bool { return len(f.counts()) == 8 && f.counts()["u0"] > 50 })
	c.Nodes[0].Kill()
	expect.Eventually(t, "the replica to be promoted", c.Replicas[0].Reigns)
	c.Nodes[0].Restart() // without a replica nothing would be answered for
	before := f.counts()
	expect.Eventually(t, "every user to be served again", func() bool { return f.grown(before, 20) })
	f.stop()
}

// Sentinels promote the replica of a primary that is gone; machines follow.
func sentinelsPromoteReplica(t *testing.T) {
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
	expect.Eventually(t, "the replica to be promoted", replica.Reigns)
	after := message("after", "u")
	expect.Eventually(t, "messages to be taken again", func() bool {
		_, err := e.Append(deadline(t, 5*time.Second), after)
		return err == nil
	})
	if got := stored(t, e, "u"); len(got) != 21 {
		t.Errorf("%v", got)
	}
	expect.Eventually(t, "the session to hear of it", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.behind["u"].Mailbox == 21 || len(h.heard) > 0 && h.heard[len(h.heard)-1] == "after"
	})
	expect.Eventually(t, "the session to be present", func() bool { return presentNow(t, e, "u") == 1 })
}

// A connection that still leads to a primary which was demoted is given up.
func demotedPrimaryIsLeft(t *testing.T) {
	heavy(t)
	p := redistest.StartPair(t)
	e, _ := quick(t, redis.Options{URL: p.URL()})
	appendTo(t, e, message("before", "u"))
	p.CutOff()
	p.PromoteSilently()
	m := message("after", "u")
	expect.Eventually(t, "the new primary to be found", func() bool {
		_, err := e.Append(deadline(t, 5*time.Second), m)
		return err == nil
	})
}
