package redis

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
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
	t.Run("has acks that count in the receipt of a repeated message, also where they are written meanwhile", func(t *testing.T) {
		server := redistest.Start(t)
		s, err := Open(t.Context(), Options{URL: server.URL(), Prefix: "acks"})
		expect.NoError(t, err)
		defer s.Close()
		m := &bridge.Message{ID: "m", To: bridge.Target{User: "u"}, Event: []byte(`1`), Type: "t", At: time.Now(), Expires: time.Now().Add(time.Hour)}
		m.Encode()
		_, err = s.Append(t.Context(), m)
		expect.NoError(t, err)
		expect.NoError(t, s.AckLater(t.Context(), "u", "ses_1", s.Life(), bridge.Position{Mailbox: 1}))
		written := s.acks.writtenSoFar()
		r, err := s.append(t.Context(), m)
		expect.NoError(t, err)
		expect.NoError(t, s.writeAcks(t.Context()))
		if again, err := s.countAcks(t.Context(), &r, written); !again && !r.Recipients[0].Acked || err != nil {
			t.Errorf("%+v is the last word, %v", r, err)
		}
		if r, err = s.Append(t.Context(), m); err != nil || !r.Recipients[0].Acked {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
