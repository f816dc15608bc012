package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// Backends of these tests: one that wants everything, one that wants nothing by itself
// and hears of what escalates, one that hears of acks of some users only, and two that alone
// hear of acks, or of ends, of theirs.
var (
	clinic   = bridge.Backend{Name: "clinic", Types: []string{"*"}, Users: []string{"u*", "v*"}}
	phone    = bridge.Backend{Name: "phone", Types: []string{"call.*"}}
	ward     = bridge.Backend{Name: "ward", Types: []string{bridge.CallbackAcked}, Users: []string{"v*"}}
	acks     = bridge.Backend{Name: "acks", Types: []string{bridge.CallbackAcked}, Users: []string{"a*"}}
	ends     = bridge.Backend{Name: "ends", Types: []string{bridge.CallbackExpired}, Users: []string{"e*"}}
	Backends = bridge.Backends{clinic, phone, ward, acks, ends}
)

// told gives the test a new store that keeps callbacks for the backends.
func (f *fixture) told() { f.fresh(Options{Backends: Backends}) }

func (f *fixture) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

// crash ends the store as kill -9 would, and opens what it left.
func (f *fixture) crash() {
	f.Helper()
	f.kill()
	f.start()
}

func (f *fixture) post(cs ...bridge.Callback) {
	f.Helper()
	f.must("post", f.outbox.Post(f.ctx, cs...))
}

// sent is a message of a user to a backend.
func (f *fixture) sent(backend, user string) bridge.Callback {
	id := fmt.Sprintf("msg_s%d", f.serial.Add(1))
	return bridge.SentCallback(backend, user, "ses_1", id, "visit.confirmed", []byte(`{"at": 9}`), f.clock.Now().UTC())
}

// online says that a user has come, each time another time.
func (f *fixture) online(backend, user string) bridge.Callback {
	return bridge.OnlineCallback(backend, user, 1, f.clock.Now().UTC().Add(time.Duration(f.serial.Add(1))))
}

func (f *fixture) lease(backend string, n int) []bridge.Leased {
	f.Helper()
	due, _, err := f.outbox.Lease(f.ctx, backend, n)
	f.must("lease", err)
	return due
}

func (f *fixture) settle(done ...bridge.Settlement) {
	f.Helper()
	f.must("settle", f.outbox.Settle(f.ctx, done...))
}

// giveUp settles a callback as dead.
func (f *fixture) giveUp(ls ...bridge.Leased) {
	f.Helper()
	for _, l := range ls {
		l.Tries++
		f.settle(bridge.Settlement{Leased: l, Last: "410"})
	}
}

// taken leases and settles all that is due, as a backend that takes everything, and
// returns it in the order in which it came.
func (f *fixture) taken(backend string) (all []bridge.Callback) {
	f.Helper()
	for {
		due := f.lease(backend, 3)
		if len(due) == 0 {
			return all
		}
		for _, l := range due {
			all = append(all, l.Callback)
			f.settle(bridge.Settlement{Leased: l, Done: true})
		}
	}
}

func (f *fixture) backlog(backend string) bridge.Backlog {
	f.Helper()
	b, err := f.outbox.Backlog(f.ctx, backend)
	f.must("backlog", err)
	b.Oldest = b.Oldest.UTC()
	return b
}

func (f *fixture) dead(backend, after string, n int) []bridge.DeadCallback {
	f.Helper()
	list, err := f.outbox.Dead(f.ctx, backend, after, n)
	f.must("dead", err)
	for i := range list {
		list[i].Since = list[i].Since.UTC()
	}
	return list
}

// ofUser is how many callbacks about a user are kept.
func (f *fixture) ofUser(user string) (n int) {
	f.Helper()
	f.must("of user", f.outbox.OfUser(f.ctx, user, func(bridge.Callback, time.Time) error { n++; return nil }))
	return n
}

// callbackIDs lists the ids of callbacks that were given up, leased or made.
func callbackIDs[T any](list ...T) []string {
	ids := []string{}
	for _, c := range list {
		switch c := any(c).(type) {
		case bridge.DeadCallback:
			ids = append(ids, c.ID)
		case bridge.Leased:
			ids = append(ids, c.ID)
		case bridge.Callback:
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// same compares callbacks whose order does not matter.
func (f *fixture) same(what string, got, want []string) {
	f.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	f.equal(what, got, want)
}

var callbacks = []promise{
	{"what was posted waits, unchanged, after a restart and a kill", func(f *fixture) {
		f.told()
		a, b, c := f.online("clinic", "u"), f.sent("clinic", "u"), f.sent("phone", "u")
		b.At = a.At // which is the oldest is not asked here
		f.post(a, b)
		f.clock.Advance(time.Minute)
		f.post(c)
		for _, again := range []func(){func() {}, f.reopen, f.crash} {
			again()
			f.equal("backlog", f.backlog("clinic"), bridge.Backlog{Waiting: 2, Bytes: int64(len(a.Body) + len(b.Body)), Oldest: b.At})
			f.equal("the other's backlog", f.backlog("phone"), bridge.Backlog{Waiting: 1, Bytes: int64(len(c.Body)), Oldest: c.At})
		}
		got := f.taken("clinic")
		for i := range got {
			got[i].At = got[i].At.UTC()
		}
		// Both became due at the same moment: either may come first.
		slices.SortFunc(got, func(x, y bridge.Callback) int { return strings.Compare(y.Type, x.Type) })
		f.equal("callbacks", got, []bridge.Callback{a, b})
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{})
		f.crash()
		f.equal("what was taken", len(f.taken("clinic")), 0)
		f.equal("what was not", callbackIDs(f.taken("phone")...), callbackIDs(c))
	}},
	{"the same cause makes one callback, also of one that waits or was given up", func(f *fixture) {
		f.told()
		a, b := f.sent("clinic", "u"), f.online("clinic", "u")
		f.post(a, a)
		f.post(a, b)
		f.equal("waiting", f.backlog("clinic").Waiting, 2)
		f.giveUp(f.lease("clinic", 9)...)
		f.post(b, a)
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{Dead: 2})
	}},
	{"of many who lease at once each callback has one holder, until its lease ends", func(f *fixture) {
		f.told()
		want := []string{}
		for i := range 40 {
			c := f.online("clinic", fmt.Sprint("u", i))
			want = append(want, c.ID)
			f.post(c)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := []string{}
		for range 8 {
			wg.Go(func() {
				for {
					due, _, err := f.outbox.Lease(f.ctx, "clinic", 3)
					if err != nil {
						f.Errorf("lease: %v", err)
					}
					if len(due) == 0 {
						return
					}
					mu.Lock()
					got = append(got, callbackIDs(due...)...)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		f.same("leased", got, want)
		due, next, err := f.outbox.Lease(f.ctx, "clinic", 99)
		f.must("lease", err)
		f.equal("leased again", len(due), 0)
		if end := f.clock.Now().Add(bridge.LeaseFor); !next.IsZero() && next.After(end) {
			f.Errorf("the next one may come at %v, and leases end at %v", next, end)
		}
		f.clock.Advance(bridge.LeaseFor)
		f.same("leased once they have ended", callbackIDs(f.lease("clinic", 99)...), want)
	}},
	{"a machine that dies loses its leases and no callback", func(f *fixture) {
		f.told()
		a := f.sent("clinic", "u")
		f.post(a)
		for _, again := range []func(){f.crash, f.reopen} {
			f.equal("leased", len(f.lease("clinic", 1)), 1)
			again()
			f.clock.Advance(bridge.LeaseFor)
		}
		f.equal("taken", callbackIDs(f.taken("clinic")...), callbackIDs(a))
	}},
	{"Settle forgets what is done, keeps the rest for its time, and lays aside what is dead", func(f *fixture) {
		f.told()
		f.post(f.online("clinic", "u1"), f.online("clinic", "u2"), f.online("clinic", "u3"))
		due := f.lease("clinic", 3)
		due[1].Tries, due[2].Tries = 1, 3
		again, since := f.clock.Now().Add(5*time.Second), f.clock.Now().UTC()
		f.settle(bridge.Settlement{Leased: due[0], Done: true}, bridge.Settlement{Leased: due[1], Again: again, Last: "503"},
			bridge.Settlement{Leased: due[2], Last: "410"})
		for _, restart := range []func(){func() {}, f.crash} {
			restart()
			f.equal("backlog", f.backlog("clinic"), bridge.Backlog{Waiting: 1, Bytes: int64(len(due[1].Body)), Oldest: due[1].At.UTC(), Dead: 1})
			f.equal("dead", f.dead("clinic", "", 9), []bridge.DeadCallback{{ID: due[2].ID, Type: due[2].Type, User: due[2].User, Since: since, Tries: 3, Last: "410"}})
		}
		none, next, err := f.outbox.Lease(f.ctx, "clinic", 9)
		f.must("lease", err)
		f.equal("due before its time", len(none), 0)
		f.equal("next", next.Equal(again), true)
		f.clock.Advance(5 * time.Second)
		l := f.lease("clinic", 9)
		f.equal("due", callbackIDs(l...), callbackIDs(due[1]))
		f.equal("tries", l[0].Tries, 1)
		f.equal("since", l[0].Since.Equal(due[1].At), true)
	}},
	{"a settlement that comes after its lease counts if the backend took it, and else not if another has it", func(f *fixture) {
		f.told()
		f.post(f.online("clinic", "u"))
		old := f.lease("clinic", 1)[0]
		f.clock.Advance(bridge.LeaseFor)
		f.equal("leased by another", len(f.lease("clinic", 1)), 1)
		f.giveUp(old)
		f.settle(bridge.Settlement{Leased: old, Again: f.clock.Now()})
		f.equal("backlog", f.backlog("clinic").Waiting, 1)
		f.equal("due", len(f.lease("clinic", 1)), 0)
		f.settle(bridge.Settlement{Leased: old, Done: true})
		f.settle(bridge.Settlement{Leased: old, Done: true})
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{})
	}},
	{"a user's messages go in order, and hold up neither others nor other types", func(f *fixture) {
		f.told()
		s1, s2, s3 := f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "u")
		other, online := f.sent("clinic", "v"), f.online("clinic", "u")
		elsewhere := f.sent("phone", "u")
		f.post(s1, s2, s3, other, online, elsewhere)
		due := f.lease("clinic", 9)
		f.same("the first of each", callbackIDs(due...), callbackIDs(s1, other, online))
		f.equal("at the other backend", callbackIDs(f.lease("phone", 9)...), callbackIDs(elsewhere))
		due = slices.DeleteFunc(due, func(l bridge.Leased) bool { return l.ID != s1.ID })
		due[0].Tries = 1
		f.settle(bridge.Settlement{Leased: due[0], Again: f.clock.Now().Add(10 * time.Second), Last: "timeout"})
		f.equal("behind one that is tried later", len(f.lease("clinic", 9)), 0)
		f.clock.Advance(10 * time.Second)
		due = f.lease("clinic", 9)
		f.equal("the same again", callbackIDs(due...), callbackIDs(s1))
		f.settle(bridge.Settlement{Leased: due[0], Done: true})
		f.crash()
		f.clock.Advance(bridge.LeaseFor)
		due = slices.DeleteFunc(f.lease("clinic", 9), func(l bridge.Leased) bool { return l.ID == other.ID || l.ID == online.ID })
		f.equal("the second", callbackIDs(due...), callbackIDs(s2))
		f.giveUp(due...)
		f.equal("the third, behind one that is dead", callbackIDs(f.lease("clinic", 9)...), callbackIDs(s3))
	}},
	{"those that have been due longest come first", func(f *fixture) {
		f.told()
		var want []string
		for i := range 7 {
			c := f.online("clinic", fmt.Sprint("u", i%3))
			f.post(c)
			want = append(want, c.ID)
			f.clock.Advance(time.Second)
		}
		f.equal("the first two", callbackIDs(f.lease("clinic", 2)...), want[:2])
		f.equal("the rest", callbackIDs(f.lease("clinic", 9)...), want[2:])
	}},
	{"Posted tells of what became due", func(f *fixture) {
		f.told()
		told := func(what string, cause func()) {
			f.Helper()
			select {
			case <-f.outbox.Posted():
			default:
			}
			cause()
			select {
			case <-f.outbox.Posted():
			case <-f.ctx.Done():
				f.Fatalf("nothing was told of %s", what)
			}
		}
		told("a post", func() { f.post(f.sent("clinic", "u"), f.sent("clinic", "u")) })
		first := f.lease("clinic", 9)[0]
		told("the next of a user", func() { f.giveUp(first) })
		told("what is sent again", func() { f.redrive("clinic", first.ID) })
		told("an ack", func() { f.send(user("u"), time.Hour); f.ack("u", bridge.Position{Mailbox: 1}) })
	}},
	{"dead ones are listed page by page, and due again when an operator says so, as new ones", func(f *fixture) {
		f.told()
		var ids []string
		for i := range 5 {
			c := f.sent("clinic", fmt.Sprint("u", i))
			f.post(c)
			ids = append(ids, c.ID)
		}
		f.giveUp(f.lease("clinic", 9)...)
		slices.Sort(ids)
		f.equal("first page", callbackIDs(f.dead("clinic", "", 2)...), ids[:2])
		f.equal("next page", callbackIDs(f.dead("clinic", ids[1], 2)...), ids[2:4])
		f.equal("last page", callbackIDs(f.dead("clinic", ids[3], 2)...), ids[4:])
		f.equal("of another", len(f.dead("phone", "", 9)), 0)
		f.clock.Advance(time.Hour)
		f.equal("redriven", f.redrive("clinic", ids[2], "cb_none"), 1)
		f.equal("redriven of another", f.redrive("phone", ids[0]), 0)
		due := f.lease("clinic", 9)
		f.equal("due", callbackIDs(due...), ids[2:3])
		f.equal("tries", due[0].Tries, 0)
		f.equal("since", due[0].Since.Equal(f.clock.Now()), true)
		f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{1, 4})
		f.equal("redriven", f.redrive("clinic"), 4)
		f.crash()
		f.clock.Advance(bridge.LeaseFor)
		f.same("all", callbackIDs(f.taken("clinic")...), ids)
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{})
	}},
	{"what is sent again takes its old place among its user's messages", func(f *fixture) {
		f.told()
		s1, s2, s3 := f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("clinic", "u")
		f.post(s1, s2, s3)
		f.giveUp(f.lease("clinic", 1)...)
		f.giveUp(f.lease("clinic", 1)...)
		f.equal("redriven", f.redrive("clinic", s2.ID, s1.ID), 2)
		f.equal("order", callbackIDs(f.taken("clinic")...), callbackIDs(s1, s2, s3))
	}},
	{"dead ones are kept for their time and no longer", func(f *fixture) {
		f.told()
		f.post(f.online("clinic", "u"))
		f.giveUp(f.lease("clinic", 1)...)
		f.clock.Advance(bridge.DeadCallbacksFor - time.Minute)
		f.prune()
		f.equal("before", f.backlog("clinic").Dead, 1)
		f.post(f.online("clinic", "v"))
		f.giveUp(f.lease("clinic", 1)...)
		f.clock.Advance(2 * time.Minute)
		expect.Eventually(f, "the first to go", func() bool { return len(f.dead("clinic", "", 9)) == 1 })
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{Dead: 1})
		f.equal("of who was forgotten", f.ofUser("u"), 0)
		f.equal("of the other", f.ofUser("v"), 1)
	}},
	{"an erased user has no callbacks, and others have theirs", func(f *fixture) {
		f.told()
		f.post(f.sent("clinic", "u"), f.online("clinic", "u"))
		f.giveUp(f.lease("clinic", 1)...)
		f.post(f.sent("clinic", "u"), f.sent("clinic", "u"), f.sent("phone", "u"))
		kept := f.sent("clinic", "v")
		f.post(kept)
		held := f.lease("clinic", 9)
		f.erase("u")
		for _, l := range held {
			if l.User == "u" {
				f.settle(bridge.Settlement{Leased: l, Again: f.clock.Now()})
			}
		}
		f.crash()
		f.clock.Advance(bridge.LeaseFor)
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{Waiting: 1, Bytes: int64(len(kept.Body)), Oldest: kept.At})
		f.equal("the other's", f.backlog("phone"), bridge.Backlog{})
		f.equal("left", callbackIDs(f.taken("clinic")...), callbackIDs(kept))
	}},
}
