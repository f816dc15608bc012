package redis

import (
	"errors"
	"fmt"
	"testing"

	"hookbridge/app/bridge"
)

func TestAckBook(t *testing.T) {
	at := func(life string, mailbox, broadcast uint64) laterAck {
		return laterAck{life, bridge.Position{Mailbox: mailbox, Broadcast: broadcast}}
	}
	// holds wants what the book has of a user, and that somebody is told to write it where
	// that is due.
	holds := func(t *testing.T, b *ackBook, user string, want laterAck, due bool) {
		t.Helper()
		if got, ok := b.of(user); got != want || ok != (want != laterAck{}) {
			t.Errorf("of %s it has %+v, %v, and not %+v", user, got, ok, want)
		}
		if b.empty() && want != (laterAck{}) {
			t.Error("it is empty")
		}
		if due && len(b.due) == 0 {
			t.Error("nobody is told")
		}
		select {
		case <-b.due:
		default:
		}
	}
	added := func(t *testing.T, b *ackBook, user string, a laterAck, want bool) {
		t.Helper()
		if got := b.add(user, a); got != want {
			t.Errorf("%+v of %s is taken: %v", a, user, got)
		}
	}
	t.Run("keeps of a user's acks the furthest, and those of one life", func(t *testing.T) {
		b := newAckBook()
		added(t, b, "u", at("a", 3, 1), true)
		holds(t, b, "u", at("a", 3, 1), true)
		added(t, b, "u", at("a", 2, 2), true)
		added(t, b, "u", at("b", 9, 9), false)
		added(t, b, "v", at("b", 9, 9), true)
		holds(t, b, "u", at("a", 3, 2), false)
		holds(t, b, "v", at("b", 9, 9), false)
		holds(t, b, "w", laterAck{}, false)
	})
	t.Run("has those that are being written, and again those that were not", func(t *testing.T) {
		b := newAckBook()
		added(t, b, "u", at("a", 1, 0), true)
		added(t, b, "v", at("a", 2, 0), true)
		holds(t, b, "u", at("a", 1, 0), true)
		if taken := b.take(); len(taken) != 2 {
			t.Errorf("%+v", taken)
		}
		holds(t, b, "u", at("a", 1, 0), false)
		added(t, b, "u", at("a", 0, 5), true)
		holds(t, b, "v", at("a", 2, 0), true)
		b.written(errors.New("no server"))
		holds(t, b, "u", at("a", 1, 5), false)
		b.take()
		b.written(errors.New("no server"))
		holds(t, b, "v", at("a", 2, 0), true)
		b.take()
		b.written(nil)
		holds(t, b, "u", laterAck{}, false)
		if !b.empty() {
			t.Error("what is written is on it")
		}
	})
	t.Run("is bounded, and takes more of those who are on it", func(t *testing.T) {
		b := newAckBook()
		for i := range ackBookLimit {
			added(t, b, fmt.Sprint("u", i), at("a", 1, 0), true)
		}
		added(t, b, "one more", at("a", 1, 0), false)
		added(t, b, "u7", at("a", 2, 0), true)
		holds(t, b, "u7", at("a", 2, 0), true)
	})
}
