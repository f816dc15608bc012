package sqlite

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"hookbridge/app/bridge"
)

const (
	// acksPerGroup is how many users' acks one transaction writes: more would
	// hold up the messages in it.
	acksPerGroup = 128
	// dirtyLimit is how many users' acks may wait to be written. They only
	// pile up while the disk fails.
	dirtyLimit = 100_000
)

// ackBook holds acks, and when users were last seen, that are not written yet.
// They count at once, and are written within a second: many users at a time, and
// each user once however often they acked.
type ackBook struct {
	batch   []string // users whose turn it is, in order of their rows
	writing []string // those in the running transaction
	waiting atomic.Int64

	mu    sync.Mutex // guards dirty, which those who look things up read too
	dirty map[string]dirt
}

// dirt is what of one user is not written yet.
type dirt struct {
	acked bridge.Position
	seen  int64 // Unix nanoseconds; 0: as it was
}

// full reports whether no more acks should come in. Any goroutine may ask.
func (b *ackBook) full() bool { return b.waiting.Load() >= dirtyLimit }

// of is the unwritten ack of a user. Any goroutine may ask.
func (b *ackBook) of(user string) (bridge.Position, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.dirty[user]
	return d.acked, ok
}

// lastSeen is when a user was last seen, where that is not written yet.
func (b *ackBook) lastSeen(user string) (int64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.dirty[user]
	return d.seen, d.seen != 0
}

func (b *ackBook) add(user string, p bridge.Position, seen int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dirty[user] = dirt{p, seen}
	b.waiting.Store(int64(len(b.dirty)))
}

// due gives every user with an unwritten ack a turn.
func (b *ackBook) due() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.batch) == 0 && len(b.dirty) > 0 {
		b.batch = slices.Sorted(maps.Keys(b.dirty))
	}
}

func (b *ackBook) pending() bool { return len(b.batch) > 0 }

// written takes the acks of a transaction that succeeded off the book.
func (b *ackBook) written() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, user := range b.writing {
		delete(b.dirty, user)
	}
	b.writing = b.writing[:0]
	b.waiting.Store(int64(len(b.dirty)))
}

// failed keeps them for the next turn.
func (b *ackBook) failed() {
	b.writing = b.writing[:0]
	b.batch = nil
}

// keepTo takes back what is not written of an ack, beyond a place.
func (b *ackBook) keepTo(user string, p bridge.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d, ok := b.dirty[user]; ok {
		d.acked = d.acked.Min(p)
		b.dirty[user] = d
	}
}

// forget drops what is not written of a user who is erased.
func (b *ackBook) forget(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.dirty, user)
	b.batch = slices.DeleteFunc(b.batch, func(u string) bool { return u == user })
	b.waiting.Store(int64(len(b.dirty)))
}

// Ack implements bridge.Store. It counts for every Append, Join and Ack that is
// called after it has returned, and is durable within a second; where backends hear of
// it, at once.
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
	if s.acks.full() {
		return bridge.ErrUnavailable
	}
	if s.tellsOfAcks(user) {
		return s.ackNow(ctx, user, session, p)
	}
	return s.enqueue(ctx, &request{early: true, plain: true, write: func(w *writer) error { return w.ack(user, p) }})
}

// AckLater implements bridge.Store.
func (s *Store) AckLater(ctx context.Context, user, session, life string, p bridge.Position) error {
	return s.Ack(ctx, user, session, life, p)
}

// ack moves what a user has acked forward, in memory. It runs before the others of
// its group: an ack beyond the head counts as the head, which must not be that of
// a message that this group may fail to write.
func (w *writer) ack(user string, p bridge.Position) error {
	rec, p, err := w.acking(user, p)
	if err == nil && p != rec.acked {
		rec.acked = p
		w.acks.add(user, p, rec.lastSeen)
	}
	return err
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
		rec, err := w.record(user)
		if err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
		w.touch(rec)
		w.acks.writing = append(w.acks.writing, user)
		if err := w.sql.save(rec); err != nil {
			return err
		}
		if err := w.ackedTimers(rec); err != nil {
			return err
		}
	}
	w.acks.batch = w.acks.batch[n:]
	return nil
}

// flushAcks writes all acks that are left, before the end.
func (w *writer) flushAcks() error {
	for w.acks.due(); w.acks.pending(); w.acks.due() {
		if _, err := w.attempt(func() (bool, error) { return w.transact(nil) }); err != nil {
			return err
		}
	}
	return nil
}
