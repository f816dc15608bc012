package storetest

import (
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// arm sets when a user's timer of presence is due.
func (f *fixture) arm(user string, in time.Duration, begin bool, cs ...bridge.Callback) bool {
	f.Helper()
	begun, err := f.outbox.Arm(f.ctx, user, f.clock.Now().Add(in), begin, cs...)
	f.must("arm", err)
	return begun
}

// offline ends a timer of presence with a user.offline.
func (f *fixture) offline(t bridge.Timer) bool {
	f.Helper()
	fired, err := f.outbox.Fire(f.ctx, t, bridge.OfflineCallback("clinic", t, t.Due, f.clock.Now().UTC()))
	f.must("fire", err)
	return fired
}

var arming = []promise{
	{"a user's presence begins once, with its callbacks, and ends once", func(f *fixture) {
		f.told()
		online := f.online("clinic", "u")
		f.equal("armed without one", f.arm("u", time.Minute, false, f.online("clinic", "u")), false)
		f.clock.Advance(time.Hour)
		f.equal("due", len(f.timers()), 0)
		f.equal("begun", f.arm("u", time.Minute, true, online), true)
		f.crash()
		f.equal("begun again", f.arm("u", time.Minute, true, f.online("clinic", "u")), false)
		f.equal("heard", callbackIDs(f.taken("clinic")...), callbackIDs(online))
		f.clock.Advance(time.Minute)
		ts := f.timers()
		f.equal("due", len(ts), 1)
		f.equal("timer", []any{ts[0].Type, ts[0].User, ts[0].EventID, ts[0].Due.Equal(f.clock.Now())}, []any{bridge.CallbackOffline, "u", "", true})
		f.equal("ended", f.offline(ts[0]), true)
		f.equal("ended again", f.offline(ts[0]), false)
		f.crash()
		f.equal("heard", len(f.taken("clinic")), 1)
		f.clock.Advance(time.Hour)
		f.equal("due", len(f.timers()), 0)
		f.equal("begun anew", f.arm("u", time.Minute, true), true)
	}},
	{"a timer that is armed while it is leased does not fire, and has its new time", func(f *fixture) {
		f.told()
		f.arm("u", time.Minute, true)
		f.clock.Advance(time.Minute)
		old := f.timers()[0]
		f.arm("u", 10*time.Second, false)
		f.equal("fired", f.offline(old), false)
		f.equal("due before its new time", len(f.timers()), 0)
		f.clock.Advance(10 * time.Second)
		again := f.timers()
		f.equal("due", len(again), 1)
		f.equal("fired by the old lease", f.offline(old), false)
		f.equal("fired", f.offline(again[0]), true)
		f.equal("heard", len(f.taken("clinic")), 1)
	}},
	{"arming does not depend on acks, and an erased user has no such timer", func(f *fixture) {
		f.told()
		f.send(user("u"), time.Hour)
		f.arm("u", time.Minute, true)
		f.arm("v", time.Minute, true)
		f.ack("u", bridge.Position{Mailbox: 1})
		f.recall(f.send(user("u"), time.Hour).ID)
		f.clock.Advance(time.Minute)
		f.equal("due", len(f.timers()), 2)
		f.clock.Advance(bridge.LeaseFor)
		f.erase("u")
		ts := f.timers()
		f.equal("due", due(ts), []string{"user.offline v "})
	}},
	{"Arm and Fire at the same moment exclude each other", func(f *fixture) {
		f.told()
		for range 40 {
			f.arm("u", time.Second, true)
			f.clock.Advance(time.Second)
			ts := f.timers()
			f.equal("due", len(ts), 1)
			var wg sync.WaitGroup
			var begun bool
			wg.Go(func() {
				var err error
				if begun, err = f.outbox.Arm(f.ctx, "u", f.clock.Now().Add(time.Second), true); err != nil {
					f.Errorf("arm: %v", err)
				}
			})
			fired := f.offline(ts[0])
			wg.Wait()
			f.equal("begun anew, where it had ended", begun, fired)
			f.clock.Advance(bridge.LeaseFor)
			ts = f.timers()
			f.equal("due, in either case", len(ts), 1)
			f.equal("ended", f.offline(ts[0]), true)
		}
	}},
}
