package bridge_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
)

// unacked is a timer of an event's escalation that is due in a minute.
func unacked(user, id string) bridge.Timer {
	return bridge.Timer{Type: bridge.CallbackUnacked, User: user, EventID: id, EventType: "patient.added", After: 2 * time.Minute, Due: time.Now().Add(time.Minute)}
}

func TestTimers(t *testing.T) {
	bubble := func(name string, f func(t *testing.T, c *clinic)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, newClinic(t)) }) })
	}
	bubble("tell each backend that covers the user how far an event has come, within a second or two", func(t *testing.T, c *clinic) {
		at := time.Now()
		r := bridge.Record{ID: "msg_1"}
		for _, i := range []uint64{2, 0, 1} {
			user, place := fmt.Sprint("patient-", i), bridge.Position{Mailbox: 4 + i}
			r.Recipients = append(r.Recipients, bridge.RecipientStatus{User: user, Seq: place.Mailbox, Held: true})
			log := bridge.DeliveryLog{From: bridge.Position{Mailbox: place.Mailbox - 1}, Sent: []bridge.Mark{{Place: place, At: at}}}
			read := log
			read.Received = log.Sent
			c.given[user] = [][]bridge.DeliveryLog{nil, {log}, {log, read}}[i]
			c.outbox.add(unacked(user, "msg_1"))
		}
		c.records["msg_1"] = r
		c.outbox.add(unacked("patient-9", "msg_forgotten"))
		_, stop := c.machine()
		defer stop()
		time.Sleep(59 * time.Second)
		c.want("before they are due")
		time.Sleep(2500 * time.Millisecond)
		states := map[string]string{}
		for _, cb := range c.outbox.all() {
			body := string(cb.Body)
			states[cb.User+" "+cb.Backend] = body[strings.Index(body, `"afterSeconds"`):]
		}
		want := map[string]string{}
		for user, state := range map[string]string{"patient-0": "queued", "patient-1": "sent", "patient-2": "received", "patient-9": "queued"} {
			for _, backend := range []string{"clinic", "lab"} {
				want[user+" "+backend] = `"afterSeconds":120,"state":"` + state + `"}}`
			}
		}
		if fmt.Sprint(states) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", states, want)
		}
		if n := c.outbox.waiting(); n != 0 {
			t.Errorf("%d are left", n)
		}
		if n := c.called("Lookup"); n != 2 {
			t.Errorf("2 events were looked up %d times", n)
		}
	})
	bubble("tell of expiry those who want it, and of an ack nobody", func(t *testing.T, c *clinic) {
		for _, user := range []string{"patient-1", "patient-2"} {
			c.outbox.add(bridge.Timer{Type: bridge.CallbackExpired, User: user, EventID: "msg_1", EventType: "patient.added", Due: time.Now().Add(time.Minute)})
			c.outbox.add(unacked(user, "msg_1"))
		}
		c.outbox.acked["patient-2 msg_1"] = true
		_, stop := c.machine()
		defer stop()
		time.Sleep(2 * time.Minute)
		c.want("of both", "clinic event.unacked patient-1", "lab event.unacked patient-1", "clinic event.expired patient-1")
	})
	bubble("of many users are fired one after the other, without a pause", func(t *testing.T, c *clinic) {
		for i := range 1000 {
			c.outbox.add(unacked(fmt.Sprint("patient-", i), "msg_1"))
		}
		_, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute + 2500*time.Millisecond)
		if n := len(c.outbox.all()); n != 2000 {
			t.Errorf("%d callbacks", n)
		}
	})
	bubble("that fail come again, and are logged once a minute", func(t *testing.T, c *clinic) {
		_, stop := c.machine()
		defer stop()
		c.fail("LeaseTimers", bridge.ErrUnavailable)
		for i := range 250 {
			c.outbox.add(unacked(fmt.Sprint("patient-", i), "msg_1"))
		}
		time.Sleep(5 * time.Minute)
		if n := strings.Count(c.logs.String(), "timers cannot be fired"); n < 1 || n > 6 {
			t.Errorf("logged %d times", n)
		}
		c.fail("LeaseTimers", nil)
		c.fail("Fire", bridge.ErrUnavailable)
		time.Sleep(2 * time.Second)
		c.fail("Fire", nil)
		time.Sleep(2 * bridge.LeaseFor)
		if n := len(c.outbox.all()); n != 500 {
			t.Errorf("%d callbacks", n)
		}
	})
	bubble("are fired by nobody whose store is closed, or who drains", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		c.fail("LeaseTimers", bridge.ErrClosed)
		time.Sleep(3 * time.Second)
		n := c.called("LeaseTimers")
		c.fail("LeaseTimers", nil)
		time.Sleep(time.Minute)
		if c.called("LeaseTimers") != n {
			t.Error("it goes on when the store is closed")
		}
		stop()
		b.RunTimers(t.Context()) // returns
		if c.called("LeaseTimers") != n {
			t.Error("it begins while draining")
		}
	})
}
