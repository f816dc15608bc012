package sqlite

import (
	"context"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Lease implements bridge.Outbox.
func (s *Store) Lease(ctx context.Context, backend string, n int) (due []bridge.Leased, next time.Time, err error) {
	var got []bridge.Leased
	var later int64
	err = s.do(ctx, func(w *writer) (err error) {
		got, later, err = w.lease(backend, n)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return got, instant(later), nil
}

func (w *writer) lease(backend string, n int) (got []bridge.Leased, next int64, err error) {
	o := w.outbox
	until := w.now + int64(bridge.LeaseFor)
	if n > 0 {
		err = with(w.sql.dueCallbacks).text(backend).int(w.now).each(func(r *sqlite3.Stmt) bool {
			id := r.ColumnText(0)
			if l, ok := o.callbacks[id]; ok && l.until > w.now {
				return true
			}
			l := lease{o.key(), backend, until}
			o.callbacks[id] = l
			o.leased = append(o.leased, id)
			got = append(got, bridge.Leased{
				Callback: bridge.Callback{ID: id, Backend: backend, Type: r.ColumnText(1), User: r.ColumnText(2),
					At: instant(r.ColumnInt64(3)), Body: r.ColumnBlob(6, []byte{})},
				Tries: r.ColumnInt(4), Since: instant(r.ColumnInt64(5)), Key: l.key,
			})
			return len(got) < n
		})
	}
	if err != nil || len(got) == n {
		return got, 0, err
	}
	err = with(w.sql.nextCallback).text(backend).int(w.now).each(func(r *sqlite3.Stmt) bool {
		next = r.ColumnInt64(0)
		return false
	})
	for id, l := range o.callbacks {
		switch {
		case l.until <= w.now:
			delete(o.callbacks, id)
		case l.backend == backend && (next == 0 || l.until < next):
			next = l.until
		}
	}
	return got, next, err
}

// Settle implements bridge.Outbox.
func (s *Store) Settle(ctx context.Context, done ...bridge.Settlement) error {
	return s.ask(ctx, &request{
		write: func(w *writer) error {
			for _, one := range done {
				if err := w.settle(one); err != nil {
					return err
				}
			}
			return nil
		},
		after: func(w *writer) {
			for _, one := range done {
				if w.outbox.callbacks[one.ID].key == one.Key {
					delete(w.outbox.callbacks, one.ID)
				}
			}
		},
	})
}

func (w *writer) settle(s bridge.Settlement) error {
	c, known, err := w.sql.callback(s.ID)
	if err != nil || !known {
		return err
	}
	l, held := w.outbox.callbacks[s.ID]
	another := held && l.key != s.Key && l.until > w.now
	if !s.Done && (another || c.dead) {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	switch {
	case s.Done:
		err = firstOf(w.removeCallback(c), w.rememberTaken(c))
	case s.Again.IsZero():
		err = w.giveUp(c, s)
	default:
		return w.tryAgain(c, s)
	}
	if err != nil || c.rank != rankSent {
		return err
	}
	return w.moveUp(c.user, c.backend)
}

// tryAgain sets when a callback is tried next. One before which an operator has put
// another waits for that.
func (w *writer) tryAgain(c storedCallback, s bridge.Settlement) error {
	due := max(dueTime(nanos(s.Again), s.Hurry), 1)
	if c.rank == rankSent {
		err := with(w.sql.userLine).text(c.user).text(c.backend).each(func(r *sqlite3.Stmt) bool {
			if r.ColumnInt64(0) != c.no {
				due = 0
			}
			return false
		})
		if err != nil {
			return err
		}
	}
	w.outbox.due = w.outbox.due || due != 0 && due <= w.now
	return with(w.sql.tryLater).int(int64(s.Tries)).text(s.Last).int(due).int(c.no).exec()
}

// takenPrefix begins an id that no event can have.
const takenPrefix = "taken:"

// takenID is an id under which it is remembered that a backend has taken a message.sent.
func takenID(callback string) string { return takenPrefix + callback }

// takenMessage is what stands in log for it: the sender is the user, the topic the backend.
func takenMessage(callback, backend, user string, at int64) *bridge.Message {
	return &bridge.Message{ID: takenID(callback), Type: bridge.ClaimType, From: user, Topic: backend, At: time.Unix(0, at)}
}

// rememberTaken remembers it as long as the ids of webhooks.
func (w *writer) rememberTaken(c storedCallback) error {
	if c.rank != rankSent {
		return nil
	}
	return w.claim(takenMessage(c.id, c.backend, c.user, w.now))
}

// dueTime is a time at which a callback is due. Its last nanosecond says whether Hurry may
// bring it forward: then it is odd.
func dueTime(at int64, hurry bool) int64 {
	if hurry {
		return at | 1
	}
	return at &^ 1
}

// hurrySlice is how many callbacks one transaction brings forward.
const hurrySlice = 1_000

// Hurry implements bridge.Outbox.
func (s *Store) Hurry(ctx context.Context, backend string) error {
	for more := true; more; {
		err := s.do(ctx, func(w *writer) (err error) {
			more, err = w.hurry(backend)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) hurry(backend string) (more bool, err error) {
	waiting, err := with(w.sql.waitsForHurry).text(backend).int(w.now).count()
	if err != nil || waiting == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	w.outbox.due = true
	err = with(w.sql.hurry).int(dueTime(w.now, false)).text(backend).int(w.now).int(hurrySlice).exec()
	return err == nil && w.sql.conn.Changes() == hurrySlice, err
}

// giveUp lays a callback aside, and forgets the oldest of those where there are too many.
func (w *writer) giveUp(c storedCallback, s bridge.Settlement) error {
	if err := with(w.sql.layAside).int(int64(s.Tries)).text(s.Last).int(w.now).int(c.no).exec(); err != nil {
		return err
	}
	w.outbox.change(c.backend, c.rank, false, -1, -c.size)
	w.outbox.change(c.backend, c.rank, true, 1, c.size)
	for st := w.outbox.stock(c.backend); w.outbox.limit.exceeded(st.dead, st.deadBytes); {
		oldest, err := with(w.sql.oldestDead).text(c.backend).int(1).storedCallbacks()
		if err != nil || len(oldest) == 0 {
			return err
		}
		if err := w.removeCallback(oldest[0]); err != nil {
			return err
		}
	}
	return nil
}
