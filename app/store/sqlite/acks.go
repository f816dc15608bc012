package sqlite

import (
	"context"
	"slices"

	"hookbridge/app/bridge"
)

const (
	// acksPerGroup is how many users' acks a transaction writes beside requests, which
	// more would hold up; acksAlone is how many one writes that has no requests.
	acksPerGroup = 128
	acksAlone    = 512
	// ticksATurn is how many ticks of the writer lie between two turns in which acks are
	// written: a user who acks all the time is written less often, and everybody well
	// within a second.
	ticksATurn = 2
	// dirtyLimit is how many users' acks may wait to be written. They only
	// pile up while the disk fails.
	dirtyLimit = 100_000
)

// Ack implements bridge.Store.
func (s *Store) Ack(ctx context.Context, user, session, life string, p bridge.Position) error {
	if user == "" {
		return errNoUser
	}
	if life != s.lives.name {
		end, err := s.LifeEnd(ctx, user, life)
		if err != nil {
			return err
		}
		p = p.Min(end)
	}
	if s.tellsOfAcks(user) {
		return s.ackNow(ctx, user, session, p)
	}
	if err := s.noteAck(ctx, user, p); err != nil {
		return err
	}
	return s.keepAcks(ctx, []string{user})
}

// AckLater implements bridge.Store. Where no backend hears of the ack it is only noted, and
// written within a second; otherwise it is Ack, with a limit of its own.
func (s *Store) AckLater(ctx context.Context, user, session, life string, p bridge.Position) error {
	if life == s.lives.name && user != "" && !s.tellsOfAcks(user) {
		return s.noteAck(ctx, user, p)
	}
	if _, limited := ctx.Deadline(); limited {
		return s.Ack(ctx, user, session, life, p)
	}
	limited, cancel := context.WithTimeout(ctx, s.opts.Patience)
	defer cancel()
	return s.Ack(limited, user, session, life, p)
}

// noteAck takes in an ack that waits for nothing.
func (s *Store) noteAck(ctx context.Context, user string, p bridge.Position) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	return s.acks.note(user, p)
}

// enterAcks moves what users have acked forward, in memory. It comes before the requests of
// a group: an ack beyond the head counts as the head, which must not be that of a message
// that came after the ack, or that this group may fail to write. An ack at which our code
// panics is dropped, and the others stay.
func (w *writer) enterAcks() error {
	taken := w.acks.take()
	for user, to, ok := taken.pop(); ok; user, to, ok = taken.pop() {
		rec, p, err := w.acking(user, to)
		if err != nil {
			taken.add(user, to)
			return err
		}
		if p == rec.acked {
			continue
		}
		rec.acked = p
		w.acks.add(user, p, rec.lastSeen)
		if err := w.writeUrgently(rec); err != nil {
			return err
		}
	}
	return nil
}

// writeUrgently writes an ack at once where an escalation may hang on it: that is void only
// if the ack came before the message's end. On a full disk it waits, as all acks do.
func (w *writer) writeUrgently(rec *record) error {
	if !w.outbox.timed || w.store.health.isFull() {
		return nil
	}
	n, err := with(w.sql.escalates).text(rec.user).seq(rec.acked.Mailbox).count()
	if err != nil || n == 0 {
		return err
	}
	return w.writeAck(rec.user)
}

// acking returns up to where a user has acked with an ack of p.
func (w *writer) acking(user string, p bridge.Position) (*record, bridge.Position, error) {
	rec, err := w.record(user)
	if err != nil {
		return nil, p, err
	}
	all, err := w.record("")
	if err != nil {
		return nil, p, err
	}
	if !rec.seen {
		// A user who has not joined, or was erased since, owns no messages to all:
		// there is none to ack, and the user must not get a row.
		p.Broadcast = 0
	}
	return rec, rec.acked.Max(p.Min(bridge.Position{Mailbox: rec.head, Broadcast: all.head})), nil
}

// writeAcks puts up to n users' acks into the running transaction.
func (w *writer) writeAcks(n int) error {
	n = min(n, len(w.acks.batch))
	for _, user := range w.acks.batch[:n] {
		if err := w.writeAck(user); err != nil {
			return err
		}
	}
	w.acks.batch = w.acks.batch[n:]
	return nil
}

// writeAck puts a user's ack into the running transaction.
func (w *writer) writeAck(user string) error {
	rec, err := w.record(user)
	if err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	w.touch(rec)
	w.acks.saved(user)
	return firstOf(w.sql.save(rec), w.ackedTimers(rec))
}

// keepAcksTold returns once the acks of some users are durable that an answer tells of. They
// count already. Errors: as keepAcks.
func (s *Store) keepAcksTold(ctx context.Context, users []string) error {
	if len(users) == 0 {
		return nil
	}
	return s.keepAcks(ctx, s.acks.unwrittenOf(users))
}

// keepAcks returns once all acks of some users that were noted before are durable, and all
// acks that were written before. Errors: bridge.ErrUnavailable, bridge.ErrClosed, the
// context's; the acks count nevertheless, and are written later.
func (s *Store) keepAcks(ctx context.Context, users []string) error {
	for some := range slices.Chunk(users, acksAlone) {
		if err := s.do(ctx, func(w *writer) error { return w.keepAcks(some) }); err != nil {
			return err
		}
	}
	if err := s.checkpoints.syncAcks(); err != nil {
		return unavailable(err)
	}
	return nil
}

func (w *writer) keepAcks(users []string) error {
	if w.scarce {
		return refuse(errDiskFull)
	}
	for _, user := range users {
		if _, waits := w.acks.of(user); !waits { // it was written meanwhile
			continue
		}
		if err := w.writeAck(user); err != nil {
			return err
		}
	}
	return nil
}

// flushAcks writes all acks that are left, before the end, and durably.
func (w *writer) flushAcks() error {
	for w.acks.due(); w.acks.pending() || w.acks.hasNotes(); w.acks.due() {
		_, err := w.attempt(func() (bool, error) {
			if err := w.carryInto(nil); err != nil || !w.inTx {
				return false, err
			}
			return true, w.commitTx()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
