package sqlite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/storetest"
)

func TestRejoin(t *testing.T) {
	t.Run("of a known user commits nothing, also while messages wait to be put into the file", rejoinCommitsNothing)
	t.Run("with a token that names groups is in the file, and its end is", rejoinWithGroups)
	t.Run("is not told less than was stored where a full disk rolls the open transaction back", rejoinOnAFullDisk)
}

// joinAs lets a session in with a token that names groups, in the place of ended.
func joinAs(t *testing.T, s *Store, session, token, ended string, groups ...string) bridge.JoinState {
	t.Helper()
	state, err := s.Enter(context.Background(), bridge.Member{User: "ada", Session: session, Token: token, Groups: groups, Until: inAnHour(), Since: time.Now()}, ended)
	expect.NoError(t, err)
	return state
}

func rejoinCommitsNothing(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: scratch(t)})
	s.Listen(&storetest.Hub{})
	joinAs(t, s, "first", "a", "")
	n := 0
	// The tick commits as well, now and then.
	expect.Eventually(t, "a join to leave the open transaction as it is", func() bool {
		n++
		mustAppend(t, s, message(fmt.Sprint("m", n), "ada", 10, inAnHour()))
		before := s.writer.tail.journal.Segment()
		if state := joinAs(t, s, fmt.Sprint("s", n), "b", ""); state.Head.Mailbox != uint64(n) {
			t.Fatalf("the head is %v after %d messages", state.Head, n)
		}
		return s.writer.tail.journal.Segment() == before
	})
}

func rejoinWithGroups(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: scratch(t)})
	s.Listen(&storetest.Hub{})
	groups := func() []string {
		t.Helper()
		g, err := s.Groups(context.Background(), "ada")
		expect.NoError(t, err)
		return g
	}
	for range 3 {
		joinAs(t, s, "first", "a", "")
		joinAs(t, s, "second", "b", "", "ward-1")
		if g := groups(); len(g) != 1 {
			t.Fatalf("groups %v", g)
		}
		joinAs(t, s, "third", "c", "")
		joinAs(t, s, "second", "c", "b")
		if g := groups(); len(g) != 0 {
			t.Fatalf("groups %v after the token that named them has ended", g)
		}
	}
}

func rejoinOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: scratch(t)})
	s.Listen(&storetest.Hub{})
	joinAs(t, s, "first", "a", "")
	for i := range 10 {
		mustAppend(t, s, message(fmt.Sprint("m", i), "ada", 10, inAnHour()))
	}
	free := make(chan struct{})
	hold := &request{plain: true, done: make(chan struct{}, 1), write: func(*writer) error { <-free; return nil }}
	again := &joining{member: bridge.Member{User: "ada", Session: "second", Token: "a", Since: time.Now()}}
	join := again.request()
	join.done = make(chan struct{}, 1)
	// They are of one group, and the second has to write.
	write := &request{done: make(chan struct{}, 1), write: func(w *writer) error {
		rec, err := w.record("bob")
		return firstOf(err, w.begin(), w.sql.save(rec))
	}}
	for _, r := range []*request{hold, join, write} {
		expect.NoError(t, s.queue.put(t.Context(), r))
	}
	full := func(op string) error {
		if op == "write" {
			return sqlite3.FULL
		}
		return nil
	}
	s.vfs.Fault.Store(&full)
	close(free)
	if err := join.answer(t.Context()); err == nil && again.state.Head.Mailbox != 10 {
		t.Errorf("the head is %v after 10 messages", again.state.Head)
	}
	if err := write.answer(t.Context()); err == nil {
		t.Error("a write succeeded on a full disk")
	}
	s.vfs.Fault.Store(nil)
	expect.Eventually(t, "a join", func() bool {
		state, err := s.Enter(t.Context(), again.member, "")
		return err == nil && state.Head.Mailbox == 10
	})
}
