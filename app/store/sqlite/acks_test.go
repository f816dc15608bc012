package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestAcks(t *testing.T) {
	t.Parallel()
	t.Run("that have returned count in every answer", acksCountAtOnce)
	t.Run("beyond the head ack no message that comes later", acksBeyondHead)
	t.Run("that come while an earlier one is written are kept", acksDuringWriting)
	t.Run("survive a panic of the writer", acksSurvivePanic)
	t.Run("are written when the store is closed", acksAreClosed)
	t.Run("are refused where too many wait", acksAreBounded)
	t.Run("on a disk that fails count, and are not answered, nor told of", acksNotTold)
	t.Run("that could not be entered are tried again", acksAreTriedAgain)
	t.Run("are written at the next tick, and at every second one while they go on", acksTakeTurns)
}

// unwritten is of how many users something is not in the file yet.
func (b *ackBook) unwritten() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.noted.of) + len(b.dirty)
}

// ack acks in one of the two ways.
func ack(e *Store, later bool, user string, p bridge.Position) error {
	if later {
		return e.AckLater(context.Background(), user, "ses_1", e.Life(), p)
	}
	return e.Ack(context.Background(), user, "ses_1", e.Life(), p)
}

func acksCountAtOnce(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			user := fmt.Sprint("u", g)
			if _, err := e.Enter(t.Context(), bridge.Member{User: user}, ""); err != nil {
				t.Error(err)
				return
			}
			for i := range 60 {
				m := message(fmt.Sprintf("m-%d-%d", g, i), user, 10, inAnHour())
				r, err := e.Append(t.Context(), m)
				if err != nil {
					t.Error(err)
					return
				}
				at := bridge.Position{Mailbox: r.Recipients[0].Seq}
				if err := ack(e, i%2 == 0, user, at); err != nil {
					t.Errorf("ack: %v", err)
					return
				}
				counts := false
				switch i % 3 {
				case 0:
					s, jerr := e.Enter(t.Context(), bridge.Member{User: user}, "")
					counts, err = s.Acked == at, jerr
				case 1:
					r, aerr := e.Append(t.Context(), m)
					counts, err = r.Duplicate && r.Recipients[0].Acked, aerr
				case 2:
					rec, lerr := e.Lookup(t.Context(), m.ID)
					counts, err = len(rec.Recipients) == 1 && rec.Recipients[0].Acked, lerr
				}
				if err != nil || !counts {
					t.Errorf("%s, round %d, does not count: %v", user, i, err)
					return
				}
			}
		})
	}
	// One user's acks come from many goroutines as well, and in any order.
	if _, err := e.Enter(t.Context(), bridge.Member{User: "all"}, ""); err != nil {
		t.Fatal(err)
	}
	const shared = 100
	for i := range shared {
		mustAppend(t, e, message(fmt.Sprint("all-", i), "all", 10, inAnHour()))
	}
	for g := range 4 {
		wg.Go(func() {
			for i := g + 1; i <= shared; i += 4 {
				at := bridge.Position{Mailbox: uint64(i)}
				err := ack(e, g%2 == 0, "all", at)
				s, jerr := e.Enter(t.Context(), bridge.Member{User: "all"}, "")
				if err = firstOf(err, jerr); err != nil || !s.Acked.Covers(at) {
					t.Errorf("%v is acked after an ack of %v: %v", s.Acked, at, err)
					return
				}
			}
		})
	}
	wg.Wait()
	expect.NoError(t, e.flushed(t))
	if n := number(t, e, "SELECT count(*) FROM users u WHERE acked_mail < (SELECT max(seq) FROM mail WHERE user = u.user)"); n != 0 {
		t.Errorf("of %d users the file does not have the ack", n)
	}
}

func acksBeyondHead(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	far := bridge.Position{Mailbox: 1 << 40, Broadcast: 1 << 40}
	var wg sync.WaitGroup
	var failing atomic.Bool
	for g := range 4 {
		user := fmt.Sprint("u", g)
		if _, err := e.Enter(t.Context(), bridge.Member{User: user}, ""); err != nil {
			t.Fatal(err)
		}
	}
	for g := range 4 {
		wg.Go(func() {
			user := fmt.Sprint("u", g)
			for i := range 40 {
				if g == 0 && i%10 == 5 {
					failing.Store(true)
					mend := breakDisk(e, "write")
					if _, err := e.Append(t.Context(), message("lost", user, 10, inAnHour())); !errors.Is(err, bridge.ErrUnavailable) {
						t.Errorf("append on a disk that fails: %v", err)
					}
					mend()
				}
				if err := ack(e, i%2 == 0, user, far); err != nil && !(failing.Load() && errors.Is(err, bridge.ErrUnavailable)) {
					t.Errorf("ack: %v", err)
					return
				}
				m := message(fmt.Sprintf("m-%d-%d", g, i), user, 10, inAnHour())
				for _, err := e.Append(t.Context(), m); err != nil; _, err = e.Append(t.Context(), m) {
					if !failing.Load() || !errors.Is(err, bridge.ErrUnavailable) {
						t.Errorf("append: %v", err)
						return
					}
				}
				if r, err := e.Append(t.Context(), m); err == nil && (!r.Duplicate || r.Recipients[0].Acked) {
					t.Errorf("%s is acked by an ack that came before it: %+v", m.ID, r)
					return
				}
			}
		})
	}
	wg.Wait()
}

func acksDuringWriting(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	mustAppend(t, e, message("a", "u", 10, inAnHour()))
	mustAppend(t, e, message("b", "u", 10, inAnHour()))
	inOpenTransaction := func(f func(w *writer)) {
		t.Helper()
		expect.NoError(t, e.ask(t.Context(), &request{plain: true, write: func(w *writer) error { f(w); return nil }}))
	}
	expect.NoError(t, ack(e, true, "u", bridge.Position{Mailbox: 1}))
	inOpenTransaction(func(w *writer) { w.acks.due() }) // after which the ack is written into it
	expect.NoError(t, ack(e, true, "u", bridge.Position{Mailbox: 2}))
	inOpenTransaction(func(*writer) {})
	expect.NoError(t, e.settled(t.Context())) // commits it
	expect.Eventually(t, "the second ack to be written", func() bool {
		return number(t, e, "SELECT acked_mail FROM users WHERE user = 'u'") == 2
	})
}

func acksSurvivePanic(t *testing.T) {
	t.Parallel()
	g, caught := guarded(t)
	e := open(t, Options{Dir: scratch(t), Guard: g})
	for i := range 20 {
		mustAppend(t, e, message(fmt.Sprint("m", i), fmt.Sprint("u", i), 10, inAnHour()))
	}
	let := hold(t, e)
	for i := range 20 {
		expect.NoError(t, ack(e, true, fmt.Sprint("u", i), bridge.Position{Mailbox: 1}))
	}
	r := &request{write: func(*writer) error { panic("x") }, done: make(chan struct{}, 1)}
	expect.NoError(t, e.enqueue(t.Context(), r))
	let()
	if <-r.done; !errors.Is(r.err, bridge.ErrUnavailable) || caught(whereWriter) != 1 {
		t.Errorf("%v, %v caught", r.err, caught(whereWriter))
	}
	for i := range 20 {
		if r := mustAppend(t, e, message(fmt.Sprint("m", i), fmt.Sprint("u", i), 10, inAnHour())); !r.Recipients[0].Acked {
			t.Errorf("the ack of %s is lost", r.Recipients[0].User)
		}
	}
	expect.NoError(t, e.flushed(t))
	if n := number(t, e, "SELECT count(*) FROM users WHERE acked_mail = 1"); n != 20 {
		t.Errorf("the file has %d", n)
	}
}

func acksAreClosed(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	const users, messages = 4, 200
	for i := range users * messages {
		mustAppend(t, e, message(fmt.Sprint("m", i), fmt.Sprint("u", i%users), 10, inAnHour()))
	}
	var acked [users]uint64 // the last that was taken
	var wg sync.WaitGroup
	begun := make(chan struct{}, users)
	for u := range users {
		wg.Go(func() {
			for seq := uint64(1); seq <= messages; seq++ {
				err := ack(e, seq%2 == 0, fmt.Sprint("u", u), bridge.Position{Mailbox: seq})
				if errors.Is(err, bridge.ErrClosed) {
					break
				}
				if err != nil {
					t.Errorf("ack: %v", err)
				}
				acked[u] = seq
				if seq == messages/2 {
					begun <- struct{}{}
				}
			}
		})
	}
	<-begun
	expect.NoError(t, e.Close())
	wg.Wait()
	if err := ack(e, true, "u0", bridge.Position{Mailbox: 1}); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("an ack after Close: %v", err)
	}
	e = open(t, Options{Dir: dir})
	for u, want := range acked {
		s, err := e.Enter(t.Context(), bridge.Member{User: fmt.Sprint("u", u)}, "")
		// The last Ack may have been noted, and then not answered.
		if kept := s.Acked.Mailbox; err != nil || kept != want && (kept != want+1 || kept%2 == 0) {
			t.Errorf("u%d has acked %d, and %d is kept: %v", u, want, kept, err)
		}
	}
}

func acksAreBounded(t *testing.T) {
	t.Parallel()
	b := newAckBook()
	at := bridge.Position{Mailbox: 1}
	for i := range dirtyLimit {
		user := fmt.Sprint("u", i)
		if i%2 == 0 {
			b.add(user, at, 0)
		} else if err := b.note(user, at); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
	if err := b.note("another", at); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("one user more: %v", err)
	}
	for _, user := range []string{"u0", "u1"} {
		if err := b.note(user, bridge.Position{Mailbox: 2}); err != nil {
			t.Errorf("a user who is on the book already: %v", err)
		}
	}
}

func acksNotTold(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync"} {
		e := open(t, Options{Dir: scratch(t)})
		m := message("m", "u", 10, inAnHour())
		mustAppend(t, e, m)
		mend := breakDisk(e, op)
		answered := []error{ack(e, false, "u", bridge.Position{Mailbox: 1})}
		_, err := e.Append(t.Context(), m)
		answered = append(answered, err)
		_, err = e.Lookup(t.Context(), m.ID)
		for i, err := range append(answered, err) {
			if !errors.Is(err, bridge.ErrUnavailable) {
				t.Errorf("%s: call %d: %v", op, i, err)
			}
		}
		mend()
		if r := mustAppend(t, e, m); !r.Recipients[0].Acked {
			t.Errorf("%s: the ack does not count", op)
		}
	}
}

func acksTakeTurns(t *testing.T) {
	t.Parallel()
	b := newAckBook()
	acks := []bool{true, true, true, false, false, false, true, true, true, true, true}
	turn := []bool{true, false, true, false, false, false, true, false, true, false, true}
	for i, acked := range acks {
		if acked {
			b.add("u", bridge.Position{Mailbox: uint64(i + 1)}, 0)
		}
		b.tick()
		if b.pending() != turn[i] {
			t.Errorf("tick %d: a turn: %v", i, b.pending())
		}
		if b.batch = nil; turn[i] {
			b.saved("u")
			b.written()
		}
	}
}

func acksAreTriedAgain(t *testing.T) {
	t.Parallel()
	b := newAckBook()
	note := func(user string, mailbox, broadcast uint64) {
		t.Helper()
		expect.NoError(t, b.note(user, bridge.Position{Mailbox: mailbox, Broadcast: broadcast}))
	}
	note("b", 5, 1)
	note("a", 1, 0)
	if user, _, ok := b.take().pop(); user != "a" || !ok { // it is entered, and b is not
		t.Errorf("%s comes first, %v", user, ok)
	}
	note("b", 2, 3)
	note("c", 1, 1)
	note("d", 1, 1)
	b.forget("d")
	if !b.hasNotes() {
		t.Error("nothing is left")
	}
	got := make(map[string]bridge.Position)
	taken := b.take()
	for user, p, ok := taken.pop(); ok; user, p, ok = taken.pop() {
		got[user] = p
	}
	if len(got) != 2 || got["b"] != (bridge.Position{Mailbox: 5, Broadcast: 3}) || got["c"] != (bridge.Position{Mailbox: 1, Broadcast: 1}) {
		t.Errorf("%v", got)
	}
	if b.hasNotes() {
		t.Error("something is left")
	}
}
