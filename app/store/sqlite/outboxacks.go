package sqlite

import (
	"context"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// tellsOfAcks reports whether a backend hears of a user's acks, or of what the user has
// not acked by its end: for that it counts when an ack came, and so none is written late.
func (s *Store) tellsOfAcks(user string) bool {
	bs := s.opts.Backends
	return len(bs) > 0 && (len(bs.Want(bridge.CallbackAcked, user)) > 0 || len(bs.Want(bridge.CallbackExpired, user)) > 0)
}

// ackSlice is of how many messages one transaction tells that they are acked. A longer
// ack moves on in steps, each with its callbacks.
const ackSlice = 250

// ackNow takes an ack and returns once it and its callbacks are in the file.
func (s *Store) ackNow(ctx context.Context, user, session string, p bridge.Position) error {
	for more := true; more; {
		var before *bridge.Position // nil until it is known
		err := s.ask(ctx, &request{
			early: true,
			write: func(w *writer) (err error) {
				was := bridge.Position{}
				if was, p, more, err = w.ackNow(user, session, p); err == nil {
					before = &was
				}
				return err
			},
			failed: func(w *writer, err error) error {
				// When the user was there last may be written later, and not the ack.
				if before != nil {
					w.acks.keepTo(user, *before)
				}
				return err
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ackNow writes one step of an ack of p. before is how far it was, and capped p without
// what is beyond the head.
func (w *writer) ackNow(user, session string, p bridge.Position) (before, capped bridge.Position, more bool, err error) {
	rec, p, err := w.acking(user, p)
	if err != nil {
		return before, p, false, err
	}
	before = rec.acked
	if p == before {
		return before, p, false, nil
	}
	if w.scarce {
		return before, p, false, refuse(errDiskFull)
	}
	if err := w.begin(); err != nil {
		return before, p, false, err
	}
	next := p
	if len(w.wants(rec).acked) > 0 {
		if next, err = w.tellAcked(rec, session, p); err != nil {
			return before, p, false, err
		}
	}
	w.touch(rec)
	rec.acked = next
	return before, p, next != p, firstOf(w.sql.save(rec), w.ackedTimers(rec))
}

// tellAcked stores the callbacks of an ack of p, and returns how far it came.
func (w *writer) tellAcked(rec *record, session string, p bridge.Position) (bridge.Position, error) {
	last, told, err := w.tellAckedOf(rec, rec.user, session, rec.acked.Mailbox, p.Mailbox, ackSlice)
	if err != nil || told == ackSlice {
		return bridge.Position{Mailbox: last, Broadcast: rec.acked.Broadcast}, err
	}
	after := max(rec.acked.Broadcast, rec.first)
	room := ackSlice - told
	last, told, err = w.tellAckedOf(rec, "", session, after, p.Broadcast, room)
	if err == nil && told < room {
		last = p.Broadcast
	}
	return bridge.Position{Mailbox: p.Mailbox, Broadcast: last}, err
}

// tellAckedOf tells of up to n messages of a log.
func (w *writer) tellAckedOf(rec *record, log, session string, after, upTo uint64, n int) (last uint64, told int, err error) {
	if last = after; upTo <= after {
		return last, 0, nil
	}
	var cs []bridge.Callback
	at := time.Unix(0, w.now).UTC()
	err = with(w.sql.ackedMail).text(log).seq(after).seq(upTo).int(w.now).int(int64(n)).each(func(r *sqlite3.Stmt) bool {
		last = uint64(r.ColumnInt64(0))
		told++
		for _, backend := range w.wants(rec).acked {
			cs = append(cs, bridge.AckedCallback(backend, rec.user, session, r.ColumnText(1), r.ColumnText(2), at))
		}
		return true
	})
	if err != nil {
		return last, told, err
	}
	return last, told, w.post(cs)
}
