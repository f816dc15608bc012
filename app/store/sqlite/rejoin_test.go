package sqlite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestRejoin(t *testing.T) {
	t.Run("of a known user commits nothing, also while messages wait to be put into the file", rejoinCommitsNothing)
	t.Run("with a token that names groups is in the file, and its end is", rejoinWithGroups)
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
	s.Listen(deaf{})
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
	s.Listen(deaf{})
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
