package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// frame is an event as a session gets it.
func frame(l *ledger, n int64) []byte {
	return append(l.data([]byte(`{"type":"event","cursor":"c","event":{"id":"x","data":`), n, 200), "}}"...)
}

func TestLedger(t *testing.T) {
	// send numbers a message, and has the server take it.
	send := func(l *ledger, want int) int64 {
		n, m := l.number(want, l.now())
		m.sent.Store(l.now())
		l.accept(m)
		return n
	}
	counts := func(t *testing.T, l *ledger, lost, doubled, disordered, stray int64) {
		t.Helper()
		if l.lost() != lost || l.doubled.Load() != doubled || l.disordered.Load() != disordered || l.stray.Load() != stray {
			t.Errorf("lost %d, doubled %d, out of order %d, stray %d", l.lost(), l.doubled.Load(), l.disordered.Load(), l.stray.Load())
		}
	}
	t.Run("finds nothing where all came once and in order", func(t *testing.T) {
		l, r := newLedger(), &receiver{}
		for range 3 * chunkMessages / 2 {
			l.received(r, frame(l, send(l, 1)))
		}
		counts(t, l, 0, 0, 0, 0)
		if !l.settled() {
			t.Error("all have arrived")
		}
	})
	t.Run("counts what was accepted and never came", func(t *testing.T) {
		l := newLedger()
		send(l, 1)
		send(l, 5)
		l.number(1, l.now()) // not accepted
		counts(t, l, 6, 0, 0, 0)
		if l.settled() {
			t.Error("6 are missing")
		}
	})
	t.Run("counts repetitions", func(t *testing.T) {
		l, r, other := newLedger(), &receiver{}, &receiver{}
		one, all := send(l, 1), send(l, 2)
		for range 3 {
			l.received(r, frame(l, one))
			l.received(r, frame(l, all))
		}
		l.received(other, frame(l, all))
		counts(t, l, 0, 4, 0, 0)
	})
	t.Run("counts a message that comes after one that was sent when it was stored", func(t *testing.T) {
		l, r := newLedger(), &receiver{}
		first := send(l, 1)
		second := send(l, 1)
		l.received(r, frame(l, second))
		l.received(r, frame(l, first))
		counts(t, l, 0, 0, 1, 0)
	})
	t.Run("has no order for what was sent at the same time", func(t *testing.T) {
		l, r := newLedger(), &receiver{}
		a, first := l.number(1, l.now())
		b, second := l.number(1, l.now())
		first.sent.Store(l.now())
		second.sent.Store(l.now())
		l.accept(second)
		l.accept(first)
		l.received(r, frame(l, b))
		l.received(r, frame(l, a))
		counts(t, l, 0, 0, 0, 0)
	})
	t.Run("keeps messages of other runs out", func(t *testing.T) {
		l, r := newLedger(), &receiver{}
		l.received(r, frame(newLedger(), 0))
		l.received(r, frame(l, 0)) // never sent
		l.received(r, []byte(`{"type":"event"}`))
		counts(t, l, 0, 0, 0, 3)
	})
	t.Run("writes data of the size that is asked for", func(t *testing.T) {
		l := newLedger()
		for _, size := range []int{minBytes, 65, 200, maxBytes} {
			data := l.data(nil, 7, size)
			if n, ok := l.numberIn(data); len(data) != size || !json.Valid(data) || !ok || n != 7 {
				t.Errorf("%d bytes: %s", len(data), bytes.TrimSpace(data[:minBytes]))
			}
		}
	})
}
