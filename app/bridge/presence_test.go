package bridge_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbridge/app/bridge"
)

func TestPresence(t *testing.T) {
	const online, gone, goneLab = "clinic user.online patient-1", "clinic user.offline patient-1", "lab user.offline patient-1"
	bubble := func(name string, f func(t *testing.T, c *clinic)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, newClinic(t)) }) })
	}
	bubble("is told once for all sessions of a user, and its end ten seconds after the last has gone", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		came := time.Now()
		first := join(b, "patient-1")
		second := join(b, "patient-1")
		synctest.Wait()
		c.want("with two sessions", online)
		if got := string(c.outbox.all()[0].Body); !strings.Contains(got, `"timestamp":"`+came.UTC().Format(time.RFC3339)) || !strings.Contains(got, `{"user":"patient-1","sessions":1}`) {
			t.Error(got)
		}
		first.Abort()
		time.Sleep(time.Hour)
		c.want("with one left", online)
		left := time.Now()
		second.Abort()
		time.Sleep(9500 * time.Millisecond)
		c.want("before ten seconds", online)
		time.Sleep(1600 * time.Millisecond)
		c.want("after ten seconds", online, gone, goneLab)
		if got := string(c.outbox.all()[1].Body); !strings.Contains(got, `"lastSeen":"`+left.UTC().Format(time.RFC3339)) {
			t.Error(got)
		}
		if n := c.outbox.waiting(); n != 0 {
			t.Errorf("%d timers are left", n)
		}
		join(b, "patient-1")
		synctest.Wait()
		c.want("when they come again", online, gone, goneLab, online)
	})
	bubble("does not change at a reconnect within ten seconds, on whichever machine", func(t *testing.T, c *clinic) {
		a, stopA := c.machine()
		b, stopB := c.machine()
		defer stopB()
		time.Sleep(time.Minute)
		on := []*bridge.Bridge{a, b}
		p := join(a, "patient-1")
		for i := range 20 {
			time.Sleep(time.Minute)
			p.Abort()
			time.Sleep(9 * time.Second)
			p = join(on[i%2], "patient-1")
		}
		stopA() // where a machine stops, its sessions go to another
		p.Abort()
		time.Sleep(5 * time.Second)
		p = join(b, "patient-1")
		time.Sleep(time.Hour)
		c.want("after reconnects", online)
		p.Abort()
		time.Sleep(12 * time.Second)
		c.want("when they have gone", online, gone, goneLab)
	})
	bubble("ends by another machine where the one dies that the user left", func(t *testing.T, c *clinic) {
		a, stopA := c.machine()
		_, stopB := c.machine()
		defer stopB()
		time.Sleep(time.Minute)
		p := join(a, "patient-1")
		time.Sleep(time.Minute)
		p.Abort()
		time.Sleep(time.Second)
		stopA()
		time.Sleep(11 * time.Second)
		c.want("after ten seconds", online, gone, goneLab)
	})
	bubble("ends within minutes where the user's machine dies", func(t *testing.T, c *clinic) {
		a, stopA := c.machine()
		_, stopB := c.machine()
		defer stopB()
		time.Sleep(time.Minute)
		p := join(a, "patient-1")
		time.Sleep(17 * time.Minute)
		c.want("while they are there", online)
		c.fail("Arm", bridge.ErrUnavailable) // nothing that the dead machine does counts
		c.fail("Leave", bridge.ErrUnavailable)
		p.Abort()
		synctest.Wait()
		c.fail("Arm", nil)
		c.fail("Leave", nil)
		c.lapse("patient-1", "")
		time.Sleep(5*time.Minute + 15*time.Second)
		c.want("afterwards", online, gone, goneLab)
		stopA()
	})
	bubble("ends ten seconds after the user was there last, where they are looked up before that", func(t *testing.T, c *clinic) {
		a, stopA := c.machine()
		_, stopB := c.machine()
		defer stopB()
		time.Sleep(time.Minute)
		p := join(a, "patient-1")
		time.Sleep(5*time.Minute - 3*time.Second) // their timer is about to be due
		c.fail("Arm", bridge.ErrUnavailable)      // nothing that the dead machine does counts
		c.fail("Leave", bridge.ErrUnavailable)
		p.Abort()
		synctest.Wait()
		c.fail("Arm", nil)
		c.fail("Leave", nil)
		c.lapse("patient-1", "")
		time.Sleep(9500 * time.Millisecond)
		c.want("before ten seconds", online)
		time.Sleep(2500 * time.Millisecond)
		c.want("afterwards", online, gone, goneLab)
		stopA()
	})
	t.Run("is told to who wants one of the two alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newClinic(t)
			b, stop := c.machine(func(cfg *bridge.Config) {
				cfg.Backends = bridge.Backends{{Name: "in", Types: []string{bridge.CallbackOnline}, Users: []string{"patient-1"}}, {Name: "out", Types: []string{bridge.CallbackOffline}, Users: []string{"patient-2"}}}
			})
			defer stop()
			time.Sleep(time.Minute)
			for _, user := range []string{"patient-1", "patient-2", "patient-3"} {
				join(b, user).Abort()
			}
			time.Sleep(12 * time.Second)
			c.want("of three", "in user.online patient-1", "out user.offline patient-2")
		})
	})
	bubble("ends also where the user leaves while they are looked up", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		p := join(b, "patient-1")
		time.Sleep(4 * time.Minute)
		c.mu.Lock()
		c.looked = func() {
			p.Abort()
			time.Sleep(time.Second) // they have left, and set the timer
		}
		c.mu.Unlock()
		time.Sleep(75 * time.Second)
		c.want("soon afterwards", online, gone, goneLab)
	})
	bubble("does not change where the only machine restarts and the user reconnects", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		time.Sleep(time.Minute)
		join(b, "patient-1")
		join(b, "patient-2")
		synctest.Wait()
		c.outbox.take()
		time.Sleep(5*time.Minute - 2*time.Second)
		c.fail("Arm", bridge.ErrUnavailable) // killed
		stop()
		c.fail("Arm", nil)
		time.Sleep(5 * time.Second)
		b, stop = c.machine()
		defer stop()
		time.Sleep(8 * time.Second)
		join(b, "patient-1")
		time.Sleep(time.Minute)
		c.want("after the start", "clinic user.offline patient-2", "lab user.offline patient-2")
	})
	bubble("does not change where a new life of the store begins, in which sessions are written anew", func(t *testing.T, c *clinic) {
		a, stopA := c.machine()
		_, stopB := c.machine()
		defer stopA()
		defer stopB()
		time.Sleep(time.Minute)
		p := join(a, "patient-1")
		time.Sleep(5*time.Minute - 2*time.Second) // their timer is about to be due
		settled := c.newLife()
		time.Sleep(6 * time.Second)
		settled()
		time.Sleep(time.Hour)
		c.want("while they are there", online)
		p.Abort()
		time.Sleep(12 * time.Second)
		c.want("when they have gone", online, gone, goneLab)
	})
	bubble("is told again of who is there, where the store has lost it, or took them for gone", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		p := join(b, "patient-1")
		q := join(b, "patient-2")
		join(b, "doctor-7")
		synctest.Wait()
		c.outbox.take()
		c.outbox.forget("patient-1")
		c.fail("Presence", bridge.ErrUnavailable)
		c.restored()
		time.Sleep(3 * time.Second)
		c.want("while nobody knows")
		c.fail("Presence", nil)
		time.Sleep(2 * time.Second)
		c.want("when it is known", online)
		time.Sleep(time.Hour)
		c.want("while they are there", online)
		p.Abort()
		c.restored()
		time.Sleep(12 * time.Second)
		c.want("when they have gone", online, gone, goneLab)
		q.Abort()
		time.Sleep(12 * time.Second)
		c.want("when nobody is left", online, gone, goneLab, "clinic user.offline patient-2", "lab user.offline patient-2")
	})
	bubble("is told as soon as the outbox takes it, where it failed at first", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		c.fail("Arm", bridge.ErrUnavailable)
		p := join(b, "patient-1")
		join(b, "patient-2").Abort()
		time.Sleep(5 * time.Minute)
		c.want("while it fails")
		if n := strings.Count(c.logs.String(), "that users have come or gone"); n < 1 || n > 6 {
			t.Errorf("logged %d times", n)
		}
		c.fail("Arm", nil)
		time.Sleep(31 * time.Second)
		c.want("when it works again", online)
		p.Abort()
		time.Sleep(12 * time.Second)
		c.want("when they have gone", online, gone, goneLab)
	})
	bubble("is told by a later session where the first one's machine could not", func(t *testing.T, c *clinic) {
		a, stopA := c.machine()
		b, stopB := c.machine()
		defer stopB()
		time.Sleep(time.Minute)
		c.fail("Arm", bridge.ErrUnavailable)
		first := join(a, "patient-1")
		synctest.Wait()
		c.fail("Leave", bridge.ErrUnavailable) // killed
		first.Abort()
		synctest.Wait()
		c.fail("Leave", nil)
		c.fail("Arm", nil)
		join(b, "patient-1")
		synctest.Wait()
		c.want("elsewhere", online)
		stopA()
	})
	bubble("is told by the first session when it leaves, where it could not before and others stay", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		c.fail("Arm", bridge.ErrUnavailable)
		first := join(b, "patient-1")
		join(b, "patient-1")
		synctest.Wait()
		c.fail("Arm", nil)
		first.Abort()
		synctest.Wait()
		c.want("with one left", online)
		if got := string(c.outbox.all()[0].Body); !strings.Contains(got, `"sessions":1}`) {
			t.Error(got)
		}
	})
	bubble("is told of a user whose first session could not begin, and the next one did", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		release := c.hold("Read")
		c.fail("Read", bridge.ErrUnavailable)
		go join(b, "patient-1")
		synctest.Wait()
		c.fail("Read", nil)
		go join(b, "patient-1")
		synctest.Wait()
		release()
		time.Sleep(time.Hour)
		c.want("with one left", online)
	})
	bubble("ends each time with an id of its own, also where the store does not know that the user came", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		join(b, "patient-1").Abort()
		time.Sleep(15 * time.Second)
		c.mu.Lock()
		seen := c.lastSeen["patient-1"]
		c.mu.Unlock()
		join(b, "patient-1").Abort()
		time.Sleep(5 * time.Second)
		c.mu.Lock()
		c.lastSeen["patient-1"] = seen // as after a kill before it was written
		c.mu.Unlock()
		time.Sleep(15 * time.Second)
		c.want("twice", online, gone, goneLab, online, gone, goneLab)
		ids := map[string]bool{}
		for _, cb := range c.outbox.all() {
			ids[cb.ID] = true
		}
		if len(ids) != 6 {
			t.Errorf("%d ids", len(ids))
		}
	})
	bubble("ends soon also where the outbox failed while the user left", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		p := join(b, "patient-1")
		synctest.Wait()
		c.fail("Arm", bridge.ErrUnavailable)
		p.Abort()
		time.Sleep(20 * time.Second)
		c.want("while it fails", online)
		c.fail("Arm", nil)
		time.Sleep(13 * time.Second)
		c.want("when it works again", online, gone, goneLab)
	})
	bubble("is told to backends that cover the user, and costs nothing for others", func(t *testing.T, c *clinic) {
		none, stopNone := c.machine(func(cfg *bridge.Config) { cfg.Backends, cfg.Outbox, cfg.Requester = nil, nil, nil })
		defer stopNone()
		b, stop := c.machine(func(cfg *bridge.Config) { cfg.Backends = clinicBackends[:1] })
		defer stop()
		join(none, "patient-1").Abort()
		join(b, "doctor-7").Abort()
		time.Sleep(time.Minute)
		if a, p := c.called("Arm"), c.called("Presence"); a != 0 || p != 0 {
			t.Errorf("%d and %d calls", a, p)
		}
		c.want("at all")
	})
	bubble("is told whatever fails meanwhile, and never as gone while the user is connected", func(t *testing.T, c *clinic) {
		b, stop := c.machine()
		defer stop()
		time.Sleep(time.Minute)
		p := join(b, "patient-1")
		synctest.Wait()
		c.fail("Presence", bridge.ErrUnavailable)
		p.Abort()
		time.Sleep(30 * time.Second)
		c.want("while nobody knows", online)
		p = join(b, "patient-1")
		synctest.Wait()
		c.fail("Presence", nil)
		time.Sleep(20 * time.Minute)
		c.want("when they are there", online)
		p.Abort()
		time.Sleep(5 * time.Second)
		c.fail("Fire", bridge.ErrUnavailable)
		time.Sleep(20 * time.Second)
		c.fail("Fire", nil)
		time.Sleep(time.Minute)
		c.want("when they are gone", online, gone, goneLab)
	})
}
