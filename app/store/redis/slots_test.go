package redis_test

import (
	"fmt"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis"
	"hookbridge/app/store/redis/redistest"
)

func TestSlots(t *testing.T) {
	t.Run("that move to another server are waited for", movingSlotIsWaitedFor)
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
