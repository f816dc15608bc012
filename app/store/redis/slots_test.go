package redis_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestSlots(t *testing.T) {
	t.Run("of a server that is gone do not keep the callbacks of others waiting", lostSlotsKeepNobodyWaiting)
	t.Run("that move to another server are waited for", movingSlotIsWaitedFor)
}

// More users than are visited in one round have something due in the slots of the server
// that is gone, and for longer than the one whose server is there.
func lostSlotsKeepNobodyWaiting(t *testing.T) {
	heavy(t)
	c := redistest.StartCluster(t)
	for _, n := range c.Nodes {
		n.Do("CONFIG", "SET", "cluster-require-full-coverage", "no")
	}
	e, _ := quick(t, redis.Options{URL: c.URL(), Backends: clinic, Patience: 20 * time.Second})
	needed := map[*redistest.Server]bool{c.Owner("{machines}"): true, c.Owner("{callbacks}"): true, c.Owner("{all}"): true}
	gone := c.Nodes[slices.IndexFunc(c.Nodes, func(n *redistest.Server) bool { return !needed[n] })]
	there, lost := "", 0
	for i := 0; lost < 10; i++ {
		user := fmt.Sprint("user-", i)
		if c.Owner(redis.MessagesKey(e, user)) != gone {
			there = user
			continue
		}
		expect.NoError(t, e.Post(deadline(t, 20*time.Second), sentBy(user, i)))
		lost++
	}
	gone.Kill()
	expect.NoError(t, e.Post(deadline(t, 20*time.Second), sentBy(there, 0)))
	due, _, err := e.Lease(deadline(t, 20*time.Second), "clinic", 2)
	if err != nil || len(due) != 1 || due[0].User != there {
		t.Errorf("%+v %v", due, err)
	}
}

// Each call begins while its user's keys are on two servers, and ends when they are on one.
func movingSlotIsWaitedFor(t *testing.T) {
	heavy(t)
	c := redistest.StartCluster(t)
	e, _ := quick(t, redis.Options{URL: c.URL(), Backends: clinic, Patience: time.Minute})
	appendTo(t, e, message("first", "u"))
	place := uint64(1)
	for name, call := range map[string]func() error{
		"append": func() error {
			place++
			_, err := e.Append(deadline(t, time.Minute), message(fmt.Sprint("m", place), "u"))
			return err
		},
		"ack": func() error {
			return e.Ack(deadline(t, time.Minute), "u", "ses_1", e.Life(), bridge.Position{Mailbox: place})
		},
		"read": func() error {
			_, err := e.Read(deadline(t, time.Minute), "u", e.Life(), bridge.Position{}, 100, 1<<20)
			return err
		},
		"post": func() error { return e.Post(deadline(t, time.Minute), sentBy("u", int(place))) },
		"join": func() error {
			_, err := enter(deadline(t, time.Minute), e, bridge.Member{User: "u", Session: "ses_1", Since: time.Now(), Until: time.Now().Add(time.Hour)})
			return err
		},
	} {
		// A busy machine may take longer for the move than a call waits.
		expect.Eventually(t, name, func() bool {
			finish, refused := c.Move(redis.MessagesKey(e, "u")), c.Refused()
			outcome := make(chan error, 1)
			go func() { outcome <- call() }()
			expect.Eventually(t, name+" to be refused", func() bool { return c.Refused() != refused })
			finish()
			err := <-outcome
			if err != nil {
				t.Log(name, err)
			}
			return err == nil
		})
	}
}
