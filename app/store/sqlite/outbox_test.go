package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

var clinic = bridge.Backends{{Name: "clinic", Types: []string{"*"}}}

func sent(user, id string) bridge.Callback {
	return bridge.SentCallback("clinic", user, "ses_1", id, "visit.confirmed", nil, time.Now())
}

// backlog is what the store says, which has to be what a recount says.
func backlog(t *testing.T, e *Store) bridge.Backlog {
	t.Helper()
	b, err := e.Backlog(t.Context(), "clinic")
	expect.NoError(t, err)
	expect.NoError(t, e.do(t.Context(), func(w *writer) error {
		again, err := newOutbox(e, w.sql)
		if err != nil {
			return err
		}
		for backend, s := range w.outbox.stocks {
			if *s != *again.stock(backend) {
				t.Errorf("%s: %+v is counted, and there is %+v", backend, *s, *again.stock(backend))
			}
		}
		return nil
	}))
	return b
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	t.Run("stores no callback, lease, count or ack in a commit that fails", outboxOnABrokenDisk)
	t.Run("counts exactly through whatever becomes of callbacks", outboxCounts)
	t.Run("counts exactly where the open transaction is rolled back, by a full disk too", outboxRolledBack)
	t.Run("sends all again that was given up, and hurries all that waits, however many", outboxOfMany)
	t.Run("escalates nothing that was acked, though the ack is not written yet", outboxUnwrittenAck)
	t.Run("takes nothing that an erased user has caused", outboxOfAnErasedUser)
	t.Run("of a store without backends takes nothing, and voids older timers", outboxWithoutBackends)
	t.Run("answers frequent questions from an index", outboxPlans)
	t.Run("finds out soon after a start which users have not reconnected", outboxAfterAStart)
}

func outboxOnABrokenDisk(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t), Backends: clinic})
	here := connected(e)
	m := member("ada", "ses_1", "a")
	here.mustJoin(t, m)
	mustAppend(t, e, message("m0", "ada", 10, inAnHour()))
	expect.NoError(t, e.Ack(t.Context(), "ada", "ses_1", e.Life(), bridge.Position{Mailbox: 1}))
	told, _, err := e.Lease(t.Context(), "clinic", 1)
	expect.NoError(t, err)
	expect.NoError(t, e.Settle(t.Context(), bridge.Settlement{Leased: told[0], Done: true}))
	for _, u := range []string{"ada", "eve"} {
		urgent := message("m1-"+u, u, 10, inAnHour())
		urgent.Escalate = time.Nanosecond
		mustAppend(t, e, urgent)
	}
	mustAppend(t, e, message("m2", "ada", 10, inAnHour()))
	expect.NoError(t, e.Post(t.Context(), sent("ada", "a"), sent("ada", "b"), sent("bob", "z")))
	timers, err := e.LeaseTimers(t.Context(), 1)
	expect.NoError(t, err)
	leased, _, err := e.Lease(t.Context(), "clinic", 1)
	expect.NoError(t, err)
	if len(timers) != 1 || len(leased) != 1 {
		t.Fatalf("%d timers, %d callbacks", len(timers), len(leased))
	}
	before := backlog(t, e)

	mend := breakDisk(e, "sync")
	_, fire := e.Fire(t.Context(), timers[0], bridge.UnackedCallback("clinic", timers[0], bridge.StatusQueued, time.Now()))
	_, arm := e.Arm(t.Context(), "ada", time.Now(), true)
	for what, err := range map[string]error{
		"post": e.Post(t.Context(), sent("bob", "c")), "fire": fire, "arm": arm,
		"settle": e.Settle(t.Context(), bridge.Settlement{Leased: leased[0], Done: true}),
		"lease": e.ask(t.Context(), &request{write: func(w *writer) error { // in one commit with what another one wants
			_, _, err := w.lease("clinic", 9)
			_, timed := w.leaseTimers(9)
			return firstOf(err, timed, w.post([]bridge.Callback{sent("bob", "d")}))
		}}),
		"leave": errors.Join(e.Exit(t.Context(), bridge.DeliveryLog{Member: m, Ended: time.Now()}), bridge.ErrUnavailable),
		"ack":   e.Ack(t.Context(), "ada", "ses_1", e.Life(), bridge.Position{Mailbox: 3}),
	} {
		if !errors.Is(err, bridge.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	mend()
	mustAppend(t, e, message("after", "bob", 10, inAnHour()))
	expect.NoError(t, e.flushed(t))
	if after := backlog(t, e); after != before {
		t.Errorf("%+v, and before %+v", after, before)
	}
	if n := number(t, e, "SELECT acked_mail FROM users WHERE user = 'ada'"); n != 1 {
		t.Errorf("after an ack of 1, and one of 3 that failed, it stands at %d", n)
	}
	if free, _, err := e.Lease(t.Context(), "clinic", 9); err != nil || len(free) != 1 || free[0].User != "bob" {
		t.Errorf("%+v are free, %v", free, err)
	}
	if free, err := e.LeaseTimers(t.Context(), 9); err != nil || len(free) != 1 || free[0].User == timers[0].User {
		t.Errorf("%+v are free, %v", free, err)
	}
	expect.NoError(t, e.Settle(t.Context(), bridge.Settlement{Leased: leased[0], Done: true}))
	if next, _, err := e.Lease(t.Context(), "clinic", 9); err != nil || len(next) != 1 {
		t.Errorf("%d are due, %v", len(next), err)
	}
	expect.NoError(t, e.Ack(t.Context(), "ada", "ses_1", e.Life(), bridge.Position{Mailbox: 3}))
	if b := backlog(t, e); b.Waiting != 4 {
		t.Errorf("%+v", b)
	}
}

// Upkeep forgets dead callbacks in the transaction that stays open, which messages in the
// journal share. Here a request of the same kind does it, at a time of the test's choosing.
func outboxRolledBack(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{"broken": errDisk, "full": syscall.ENOSPC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t, Options{Dir: scratch(t), Backends: clinic})
			mustAppend(t, e, message("before", "ada", 10, inAnHour()))
			expect.NoError(t, e.Post(t.Context(), sent("ada", "a"), sent("bob", "b"), sent("eve", "c")))
			due, _, err := e.Lease(t.Context(), "clinic", 2)
			expect.NoError(t, err)
			expect.NoError(t, e.Settle(t.Context(), bridge.Settlement{Leased: due[0]}))
			expect.NoError(t, e.Settle(t.Context(), bridge.Settlement{Leased: due[1], Again: time.Now()}))
			before := backlog(t, e)
			if before.Dead != 1 || before.Waiting != 2 {
				t.Fatalf("%+v", before)
			}
			mustAppend(t, e, message("in the journal", "ada", 10, inAnHour()))
			expect.NoError(t, e.ask(t.Context(), &request{plain: true, write: func(w *writer) error {
				for _, l := range due {
					c, _, err := w.sql.callback(l.ID)
					if err := firstOf(err, w.begin(), w.removeCallback(c)); err != nil {
						return err
					}
				}
				return nil
			}}))
			f := func(op string) error {
				if op == "write" {
					return fault
				}
				return nil
			}
			e.vfs.Fault.Store(&f)
			for i := range 3 { // the first rolls back what is open, the others find nothing open
				if err := e.Post(t.Context(), sent("dan", fmt.Sprint(i))); !errors.Is(err, bridge.ErrUnavailable) {
					t.Errorf("post %d: %v", i, err)
				}
			}
			e.vfs.Fault.Store(nil)
			expect.Eventually(t, "the disk to be well", func() bool { return e.Check(t.Context()) == nil })
			if after := backlog(t, e); after != before {
				t.Errorf("%+v, and before %+v", after, before)
			}
			expect.NoError(t, e.Post(t.Context(), sent("dan", "d")))
			if after := backlog(t, e); after.Waiting != 3 || after.Dead != 1 {
				t.Errorf("%+v", after)
			}
			if p, err := e.Read(t.Context(), "ada", e.Life(), bridge.Position{}, 10, 1<<20); err != nil || len(p.Deliveries) != 2 {
				t.Errorf("%d messages, %v", len(p.Deliveries), err)
			}
		})
	}
}

func outboxCounts(t *testing.T) {
	t.Parallel()
	var clock shifted
	dir := scratch(t)
	o := Options{Dir: dir, Now: clock.now, Backends: clinic, MaxCallbacks: 8}
	e := open(t, o)
	for i := range 60 {
		u := fmt.Sprint("u", i%5)
		mustAppend(t, e, message(fmt.Sprint("m", i), u, 10, clock.now().Add(time.Hour)))
		expect.NoError(t, e.Ack(t.Context(), u, "ses_1", e.Life(), bridge.Position{Mailbox: 99}))
		if err := e.Post(t.Context(), sent(u, fmt.Sprint("s", i)), bridge.OnlineCallback("clinic", u, i, clock.now())); err != nil && !errors.Is(err, bridge.ErrOutboxFull) {
			t.Fatal(err)
		}
		due, _, err := e.Lease(t.Context(), "clinic", 3)
		expect.NoError(t, err)
		for j, l := range due {
			s := bridge.Settlement{Leased: l, Done: j == 0}
			if j == 1 {
				s.Again = clock.now().Add(time.Minute)
			}
			expect.NoError(t, e.Settle(t.Context(), s))
		}
		switch i % 10 {
		case 3:
			expect.NoError(t, e.Erase(t.Context(), u))
		case 5:
			if _, err := e.Redrive(t.Context(), "clinic", nil, true); err != nil && !errors.Is(err, bridge.ErrOutboxFull) {
				t.Fatal(err)
			}
		case 8:
			expect.NoError(t, e.Close())
			e = open(t, o)
		}
		clock.advance(20 * time.Second)
		if b := backlog(t, e); b.Waiting > 8 || b.Dead > 8 {
			t.Fatalf("%+v", b)
		}
	}
}

func outboxOfMany(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t), Backends: clinic})
	const many = max(deadRowsPage, hurrySlice) + 1
	var cs []bridge.Callback
	for i := range many {
		cs = append(cs, bridge.OnlineCallback("clinic", "ada", i, time.Now().Add(time.Duration(i))))
	}
	expect.NoError(t, e.Post(t.Context(), cs...))
	due, _, err := e.Lease(t.Context(), "clinic", many)
	expect.NoError(t, err)
	var dead []bridge.Settlement
	for _, l := range due {
		dead = append(dead, bridge.Settlement{Leased: l})
	}
	expect.NoError(t, e.Settle(t.Context(), dead...))
	n, err := e.Redrive(t.Context(), "clinic", nil, true)
	if b := backlog(t, e); err != nil || n != many || b.Waiting != many || b.Dead != 0 {
		t.Errorf("%d are sent again, %v; %+v", n, err, b)
	}
	due, _, err = e.Lease(t.Context(), "clinic", many)
	expect.NoError(t, err)
	var later []bridge.Settlement
	for _, l := range due {
		later = append(later, bridge.Settlement{Leased: l, Again: time.Now().Add(time.Hour), Hurry: true})
	}
	expect.NoError(t, e.Settle(t.Context(), later...))
	expect.NoError(t, e.Hurry(t.Context(), "clinic"))
	if due, _, err = e.Lease(t.Context(), "clinic", many); err != nil || len(due) != many {
		t.Errorf("%d are due, %v", len(due), err)
	}
}

func outboxUnwrittenAck(t *testing.T) {
	t.Parallel()
	// One that no ack and no end is told to: its users' acks are written late.
	phone := bridge.Backends{{Name: "phone", Types: []string{"call.*"}}}
	e := open(t, Options{Dir: scratch(t), Backends: phone})
	for i := range 10 {
		u := fmt.Sprint("u", i)
		m := message("m-"+u, u, 10, inAnHour())
		m.Escalate = time.Nanosecond
		mustAppend(t, e, m)
		var held []bridge.Timer
		if i%2 == 0 {
			var err error
			held, err = e.LeaseTimers(t.Context(), 9)
			if err != nil || len(held) != 1 {
				t.Fatalf("%+v, %v", held, err)
			}
		}
		expect.NoError(t, ack(e, true, u, bridge.Position{Mailbox: 1}))
		for _, timer := range held {
			if fired, err := e.Fire(t.Context(), timer, bridge.UnackedCallback("phone", timer, bridge.StatusReceived, time.Now())); fired || err != nil {
				t.Errorf("fired: %v, %v", fired, err)
			}
		}
		if due, err := e.LeaseTimers(t.Context(), 9); err != nil || len(due) != 0 {
			t.Errorf("%+v are due, %v", due, err)
		}
	}
	expect.NoError(t, e.flushed(t))
	if n := number(t, e, "SELECT count(*) FROM users WHERE acked_mail = 1"); n != 10 {
		t.Errorf("the acks of %d users are written", n)
	}
	if b, err := e.Backlog(t.Context(), "phone"); err != nil || b.Waiting != 0 {
		t.Errorf("%+v, %v", b, err)
	}
}

func outboxOfAnErasedUser(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t), Backends: clinic})
	caused := sent("ada", "a")
	mustAppend(t, e, message("m", "ada", 10, inAnHour()))
	expect.NoError(t, e.Erase(t.Context(), "ada"))
	expect.NoError(t, e.Post(t.Context(), caused))
	if b := backlog(t, e); b != (bridge.Backlog{}) {
		t.Errorf("%+v", b)
	}
	expect.NoError(t, e.Post(t.Context(), sent("ada", "b"))) // who is back
	if b := backlog(t, e); b.Waiting != 1 {
		t.Errorf("%+v", b)
	}
}

func outboxWithoutBackends(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir, Backends: clinic})
	for _, u := range []string{"ada", "bob"} {
		m := message("m-"+u, u, 10, inAnHour())
		m.Escalate = time.Minute
		mustAppend(t, e, m)
	}
	expect.NoError(t, e.Close())
	e = open(t, Options{Dir: dir})
	expect.NoError(t, e.Recall(t.Context(), "m-ada"))
	expect.NoError(t, e.Ack(t.Context(), "bob", "ses_1", e.Life(), bridge.Position{Mailbox: 1}))
	mustAppend(t, e, message("later", "ada", 10, inAnHour()))
	expect.NoError(t, e.flushed(t))
	if n := number(t, e, "SELECT count(*) FROM timers"); n != 0 {
		t.Errorf("%d timers are left", n)
	}
	if b := backlog(t, e); b != (bridge.Backlog{}) {
		t.Errorf("%+v", b)
	}
}

func outboxAfterAStart(t *testing.T) {
	t.Parallel()
	var clock shifted
	o := Options{Dir: scratch(t), Backends: clinic, Now: clock.now}
	e := open(t, o)
	for _, u := range []string{"ada", "bob", "eve"} {
		_, err := e.Enter(t.Context(), bridge.Member{User: u}, "")
		expect.NoError(t, err)
	}
	came := clock.now()
	clock.advance(time.Hour)
	for _, u := range []string{"ada", "bob", "eve"} {
		_, err := e.Arm(t.Context(), u, clock.now().Add(bridge.PresenceCheck), true)
		expect.NoError(t, err)
	}
	there := clock.now()
	_, err := e.Arm(t.Context(), "eve", clock.now().Add(10*time.Second), false) // who has left
	expect.NoError(t, err)
	expect.NoError(t, e.Close())
	clock.advance(time.Minute)
	e = open(t, o)
	seen, err := e.LastSeen(t.Context(), []string{"ada", "eve"})
	expect.NoError(t, err)
	if seen[0].Sub(there).Abs() > time.Minute || seen[1].Sub(came).Abs() > time.Minute {
		t.Errorf("came at %v, there at %v: last seen %v", came, there, seen)
	}
	due := func() (users []string) {
		ts, err := e.LeaseTimers(t.Context(), 9)
		expect.NoError(t, err)
		for _, timer := range ts {
			users = append(users, timer.User)
		}
		return users
	}
	clock.advance(2 * time.Second)
	if got := due(); !slices.Equal(got, []string{"eve"}) {
		t.Errorf("while they may come back: %v", got)
	}
	_, err = e.Arm(t.Context(), "bob", clock.now().Add(5*time.Minute), true)
	expect.NoError(t, err)
	clock.advance(presenceGrace)
	if got := due(); !slices.Equal(got, []string{"ada"}) {
		t.Errorf("afterwards: %v", got)
	}
}

// outboxPlans reads the query plans: frequent questions use an index, and sort nothing.
func outboxPlans(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t), Backends: clinic})
	expect.NoError(t, e.do(t.Context(), func(w *writer) error {
		for _, asked := range []struct {
			s     *sqlite3.Stmt
			index string
		}{
			{w.sql.dueCallbacks, "callbacks_due"}, {w.sql.nextCallback, "callbacks_due"}, {w.sql.userLine, "callbacks_user"},
			{w.sql.firstToGo, "callbacks_rank"}, {w.sql.oldestOfRank, "callbacks_rank"}, {w.sql.deadCallbacks, "callbacks_dead_id"},
			{w.sql.oldestDead, "callbacks_dead"}, {w.sql.deadBefore, "callbacks_dead"}, {w.sql.callbacksOf, "callbacks_user"},
			{w.sql.dueTimers, "timers_due"}, {w.sql.timersAcked, "PRIMARY KEY"},
			{w.sql.oldEscalations, "PRIMARY KEY"}, {w.sql.escalates, "PRIMARY KEY"},
		} {
			plan, _, err := w.sql.conn.Prepare("EXPLAIN QUERY PLAN " + asked.s.SQL())
			if err != nil {
				return err
			}
			var steps []string
			err = with(plan).each(func(r *sqlite3.Stmt) bool {
				steps = append(steps, r.ColumnText(3))
				return true
			})
			if err := firstOf(err, plan.Close()); err != nil {
				return err
			}
			if !strings.Contains(steps[0], asked.index+" (") || slices.ContainsFunc(steps, func(step string) bool {
				return !strings.HasPrefix(step, "SEARCH") && !strings.HasPrefix(step, "CORRELATED")
			}) {
				t.Errorf("%s goes by %v", asked.s.SQL(), steps)
			}
		}
		return nil
	}))
}
