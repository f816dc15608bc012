package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// hurry brings forward what waits for a backend.
func (f *fixture) hurry(backend string) {
	f.Helper()
	f.must("hurry", f.outbox.Hurry(f.ctx, backend))
}

// redrive has an operator send dead callbacks again, all of them if none is named. It
// returns how many are due again.
func (f *fixture) redrive(backend string, ids ...string) int {
	f.Helper()
	n, err := f.outbox.Redrive(f.ctx, backend, ids, len(ids) == 0)
	f.must("redrive", err)
	return n
}

// giveUpAll settles callbacks as dead, at once.
func (f *fixture) giveUpAll(ls []bridge.Leased) {
	f.Helper()
	var all []bridge.Settlement
	for _, l := range ls {
		all = append(all, bridge.Settlement{Leased: l, Last: "410"})
	}
	f.settle(all...)
}

// later settles a try that failed, to be repeated in an hour; hurried or not.
func (f *fixture) later(l bridge.Leased, hurry bool) {
	f.Helper()
	l.Tries++
	f.settle(bridge.Settlement{Leased: l, Again: f.clock.Now().Add(time.Hour), Hurry: hurry, Last: "503"})
}

var resending = []promise{
	{"a message that the backend has taken is not stored again under its id", func(f *fixture) {
		f.told()
		a, b := f.sent("clinic", "u"), f.sent("clinic", "u")
		f.post(a)
		f.equal("taken", callbackIDs(f.taken("clinic")...), callbackIDs(a))
		again := a
		again.At, again.Body = a.At.Add(time.Minute), []byte(`{"other":"time"}`)
		for _, restart := range []func(){func() {}, f.reopen, f.crash} {
			restart()
			f.post(again)
			f.equal("backlog", f.backlog("clinic"), bridge.Backlog{})
		}
		f.clock.Advance(6 * 24 * time.Hour)
		f.post(again, b)
		f.equal("taken days later", callbackIDs(f.taken("clinic")...), callbackIDs(b))
		// The same id at another backend is another callback, and so is another user's.
		elsewhere := f.sent("phone", "u")
		f.post(elsewhere, f.sent("clinic", "v"))
		f.equal("elsewhere", callbackIDs(f.taken("phone")...), callbackIDs(elsewhere))
		f.equal("of another user", len(f.taken("clinic")), 1)
	}},
	{"Hurry makes due what waits because its backend was down, in the old order, and nothing else", func(f *fixture) {
		f.told()
		first, second := f.sent("clinic", "u"), f.sent("clinic", "u")
		down, asked, held, fresh := f.online("clinic", "u1"), f.online("clinic", "u2"), f.online("clinic", "u3"), f.online("clinic", "u4")
		other := f.online("phone", "u")
		f.post(first, second, down, asked, held, other)
		for _, l := range append(f.lease("clinic", 99), f.lease("phone", 9)...) {
			if l.ID != held.ID {
				f.later(l, l.ID != asked.ID)
			}
		}
		f.post(fresh)
		f.equal("due before", callbackIDs(f.lease("clinic", 99)...), callbackIDs(fresh))
		f.clock.Advance(time.Second)
		select {
		case <-f.outbox.Posted():
		default:
		}
		f.hurry("clinic")
		select {
		case <-f.outbox.Posted():
		case <-f.ctx.Done():
			f.Fatal("nobody is told that callbacks are due")
		}
		due := f.lease("clinic", 99)
		f.same("due", callbackIDs(due...), callbackIDs(first, down))
		f.equal("tries", []int{due[0].Tries, due[1].Tries}, []int{1, 1})
		for _, l := range due {
			f.settle(bridge.Settlement{Leased: l, Done: true})
		}
		f.equal("next of the user", callbackIDs(f.lease("clinic", 99)...), callbackIDs(second))
		f.equal("of the other backend", len(f.lease("phone", 9)), 0)
		f.clock.Advance(time.Hour)
		f.equal("of the other backend in its time", callbackIDs(f.lease("phone", 9)...), callbackIDs(other))
	}},
	{"Hurry has effect once, also on what waited before a crash, and of many", func(f *fixture) {
		f.told()
		var want []string
		for i := range 40 {
			c := f.online("clinic", fmt.Sprint("u", i))
			f.post(c)
			want = append(want, c.ID)
		}
		for _, l := range f.lease("clinic", 99) {
			f.later(l, true)
		}
		f.hurry("clinic")
		f.crash()
		f.clock.Advance(time.Second)
		f.same("hurried", callbackIDs(f.lease("clinic", 99)...), want)
		f.clock.Advance(bridge.LeaseFor)
		due := f.lease("clinic", 99)
		f.same("leased again", callbackIDs(due...), want)
		for i, l := range due {
			f.later(l, i%2 == 0)
		}
		f.crash()
		f.clock.Advance(time.Second)
		f.hurry("clinic")
		f.hurry("clinic")
		f.equal("hurried", len(f.lease("clinic", 99)), 20)
		f.clock.Advance(bridge.LeaseFor / 2)
		f.hurry("clinic")
		f.equal("leases that Hurry has ended", len(f.lease("clinic", 99)), 0)
	}},
	{"what a backend took is forgotten, also where another machine has given it up meanwhile", func(f *fixture) {
		f.told()
		c := f.sent("clinic", "u")
		f.post(c)
		slow := f.lease("clinic", 1)
		f.clock.Advance(bridge.LeaseFor + time.Second)
		f.giveUp(f.lease("clinic", 1)...)
		f.equal("dead", f.backlog("clinic").Dead, 1)
		f.settle(bridge.Settlement{Leased: slow[0], Done: true})
		f.post(c)
		f.equal("backlog", f.backlog("clinic"), bridge.Backlog{})
		f.equal("listed", len(f.dead("clinic", "", 9)), 0)
	}},
	{"a message that is under way is not tried beside that, where one before it is sent again", func(f *fixture) {
		f.told()
		first, second := f.sent("clinic", "u"), f.sent("clinic", "u")
		f.post(first, second)
		f.giveUp(f.lease("clinic", 9)...)
		underWay := f.lease("clinic", 9)
		f.equal("under way", callbackIDs(underWay...), callbackIDs(second))
		f.redrive("clinic", first.ID)
		f.clock.Advance(time.Second)
		f.equal("beside it", callbackIDs(f.taken("clinic")...), callbackIDs(first))
		f.settle(bridge.Settlement{Leased: underWay[0], Again: f.clock.Now().Add(time.Minute), Last: "503"})
		f.equal("due before its time", len(f.lease("clinic", 9)), 0)
		f.clock.Advance(2 * time.Minute)
		f.equal("in its time", callbackIDs(f.taken("clinic")...), callbackIDs(second))
	}},
	{"a message whose try fails waits for one before it that is sent again", func(f *fixture) {
		f.told()
		first, second := f.sent("clinic", "u"), f.sent("clinic", "u")
		f.post(first, second)
		f.giveUp(f.lease("clinic", 9)...)
		underWay := f.lease("clinic", 9)
		f.equal("under way", callbackIDs(underWay...), callbackIDs(second))
		f.redrive("clinic", first.ID)
		f.settle(bridge.Settlement{Leased: underWay[0], Again: f.clock.Now(), Last: "503"})
		f.clock.Advance(time.Second)
		due := f.lease("clinic", 9)
		f.equal("due", callbackIDs(due...), callbackIDs(first))
		f.settle(bridge.Settlement{Leased: due[0], Done: true})
		f.equal("then", callbackIDs(f.taken("clinic")...), callbackIDs(second))
	}},
	{"all of many dead ones are sent again, or forgotten in time", func(f *fixture) {
		f.told()
		var cs []bridge.Callback
		for i := range 260 {
			cs = append(cs, f.online("clinic", fmt.Sprint("u", i%10)))
		}
		f.post(cs...)
		for range 2 {
			f.giveUpAll(f.lease("clinic", 999))
			f.equal("redriven", f.redrive("clinic"), len(cs))
			f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{len(cs), 0})
		}
		due := f.lease("clinic", 999)
		f.same("due", callbackIDs(due...), callbackIDs(cs...))
		f.giveUpAll(due)
		f.clock.Advance(bridge.DeadCallbacksFor + time.Minute)
		f.prune()
		expect.Eventually(f, "all to go", func() bool { return len(f.dead("clinic", "", 9)) == 0 && f.ofUser("u1") == 0 })
	}},
	{"Hurry that breaks off, whenever that is, has its whole effect the next time", func(f *fixture) {
		f.told()
		var want []string
		for i := range 60 {
			c := f.online("clinic", fmt.Sprint("u", i))
			f.post(c)
			want = append(want, c.ID)
		}
		for _, l := range f.lease("clinic", 99) {
			f.later(l, true)
		}
		for i := range 40 {
			ctx, cancel := context.WithTimeout(f.ctx, time.Duration(i)*100*time.Microsecond)
			_ = f.outbox.Hurry(ctx, "clinic") // it may be done, or not have begun
			cancel()
		}
		f.hurry("clinic")
		f.clock.Advance(time.Second)
		f.same("hurried", callbackIDs(f.lease("clinic", 99)...), want)
	}},
	{"Redrive goes by the order in which messages were sent, whatever their ids are", func(f *fixture) {
		const all = 16
		for _, named := range []bool{false, true} {
			f.fresh(Options{Backends: Backends, MaxCallbacks: all})
			var mine []string
			for range all {
				c := f.sent("clinic", "u")
				f.post(c)
				f.giveUp(f.lease("clinic", 1)...)
				f.clock.Advance(time.Millisecond)
				mine = append(mine, c.ID)
			}
			f.post(f.sent("clinic", "v"), f.sent("clinic", "v"), f.sent("clinic", "v"))
			f.taken("clinic")
			var ids []string
			if named {
				ids = callbackIDs(f.dead("clinic", "", all)...)
			}
			for range 10 {
				f.post(f.sent("phone", "v"), f.sent("clinic", "v"))
			}
			n, err := f.outbox.Redrive(f.ctx, "clinic", ids, !named)
			if n != all-10 || !errors.Is(err, bridge.ErrOutboxFull) {
				f.Errorf("%d were redriven, %v", n, err)
			}
			var got []string
			for _, c := range f.taken("clinic") {
				if c.User == "u" {
					got = append(got, c.ID)
				}
			}
			f.equal("redriven", got, mine[:all-10])
		}
	}},
	{"Redrive says how many are due again, and where there is room for some, the rest stays dead", func(f *fixture) {
		f.fresh(Options{Backends: Backends, MaxCallbacks: 4})
		for i := range 4 {
			f.post(f.online("clinic", fmt.Sprint("u", i)))
		}
		f.giveUp(f.lease("clinic", 9)...)
		ids := callbackIDs(f.dead("clinic", "", 9)...)
		f.equal("named", f.redrive("clinic", ids[0], "cb_none", ids[0]), 1)
		f.post(f.sent("clinic", "u"))
		n, err := f.outbox.Redrive(f.ctx, "clinic", nil, true)
		if n != 2 || !errors.Is(err, bridge.ErrOutboxFull) {
			f.Errorf("%d were redriven, %v", n, err)
		}
		f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{4, 1})
		n, err = f.outbox.Redrive(f.ctx, "clinic", ids, false)
		if n != 0 || !errors.Is(err, bridge.ErrOutboxFull) {
			f.Errorf("%d were redriven into a full outbox, %v", n, err)
		}
		f.equal("backlog", []int{f.backlog("clinic").Waiting, f.backlog("clinic").Dead}, []int{4, 1})
		f.taken("clinic")
		f.equal("the rest", f.redrive("clinic"), 1)
		f.equal("nothing", f.redrive("clinic"), 0)
	}},
	{"OfUser tells all that is kept about a user, and ends where its caller does", func(f *fixture) {
		f.told()
		first, gone, called := f.sent("clinic", "u"), f.online("clinic", "u"), f.sent("phone", "u")
		f.post(gone)
		f.giveUp(f.lease("clinic", 1)...)
		f.post(first, called, f.sent("clinic", "v"))
		for range 60 {
			f.post(f.sent("clinic", "u2"))
		}
		ofUser := func(user string) (all []string) {
			f.must("of user", f.outbox.OfUser(f.ctx, user, func(c bridge.Callback, givenUp time.Time) error {
				all = append(all, fmt.Sprint(c.ID, c.Backend, c.Type, c.User, string(c.Body), givenUp.IsZero()))
				return nil
			}))
			return all
		}
		var want []string
		for _, c := range []bridge.Callback{first, gone, called} {
			want = append(want, fmt.Sprint(c.ID, c.Backend, c.Type, c.User, string(c.Body), c.ID != gone.ID))
		}
		f.same("of the user", ofUser("u"), want)
		f.equal("of one with many", len(ofUser("u2")), 60)
		f.equal("of nobody", len(ofUser("nobody")), 0)
		stop, n := errors.New("stop"), 0
		err := f.outbox.OfUser(f.ctx, "u2", func(bridge.Callback, time.Time) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			f.Errorf("%d were told, then %v", n, err)
		}
		f.must("erase", f.store.Erase(f.ctx, "u"))
		f.equal("of one who was erased", len(ofUser("u")), 0)
	}},
	{"Names are of the backends that something is kept for", func(f *fixture) {
		f.told()
		f.post(f.sent("clinic", "u"), f.online("phone", "u"))
		f.giveUp(f.lease("phone", 1)...)
		f.crash()
		names, err := f.outbox.Names(f.ctx)
		f.must("names", err)
		for _, name := range []string{"clinic", "phone"} {
			if !slices.Contains(names, name) {
				f.Errorf("%s is not among %v", name, names)
			}
		}
	}},
}
