package sqlite

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// redriveSlice is how many dead callbacks one transaction makes due again.
const redriveSlice = 250

// Backlog implements bridge.Outbox.
func (s *Store) Backlog(ctx context.Context, backend string) (bridge.Backlog, error) {
	var b bridge.Backlog
	err := s.do(ctx, func(w *writer) (err error) {
		b, err = w.backlog(backend)
		return err
	})
	if err != nil {
		return bridge.Backlog{}, err
	}
	return b, nil
}

func (w *writer) backlog(backend string) (b bridge.Backlog, err error) {
	s := w.outbox.stocks[backend]
	if s == nil {
		return b, nil
	}
	b.Waiting, b.Bytes = s.all()
	b.Dead = s.dead
	for rank := range ranks {
		err := with(w.sql.oldestOfRank).text(backend).int(int64(rank)).each(func(r *sqlite3.Stmt) bool {
			if at := instant(r.ColumnInt64(0)); b.Oldest.IsZero() || at.Before(b.Oldest) {
				b.Oldest = at
			}
			return false
		})
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// Dead implements bridge.Outbox.
func (s *Store) Dead(ctx context.Context, backend, after string, n int) ([]bridge.DeadCallback, error) {
	var list []bridge.DeadCallback
	err := s.do(ctx, func(w *writer) (err error) {
		list, err = w.sql.dead(backend, after, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (s *statements) dead(backend, after string, n int) (list []bridge.DeadCallback, err error) {
	err = with(s.deadCallbacks).text(backend).text(after).int(int64(n)).each(func(r *sqlite3.Stmt) bool {
		list = append(list, bridge.DeadCallback{ID: r.ColumnText(0), Type: r.ColumnText(1), User: r.ColumnText(2),
			Since: instant(r.ColumnInt64(3)), Tries: r.ColumnInt(4), Last: r.ColumnText(5)})
		return true
	})
	return list, err
}

// Names implements bridge.Outbox.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	var names []string // not a result: the writer may still set it after an error
	err := s.do(ctx, func(w *writer) error {
		names = slices.Sorted(maps.Keys(w.outbox.stocks))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// Redrive implements bridge.Outbox.
func (s *Store) Redrive(ctx context.Context, backend string, ids []string, all bool) (n int, err error) {
	dead, err := s.deadRows(ctx, backend, ids, all)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(dead, func(a, b deadRow) int { return cmp.Compare(a.no, b.no) })
	for slice := range slices.Chunk(dead, redriveSlice) {
		moved, full := 0, false
		err := s.do(ctx, func(w *writer) (err error) {
			moved, full, err = w.redrive(backend, slice)
			return err
		})
		if err != nil {
			return n, err
		}
		n += moved
		if full {
			return n, bridge.ErrOutboxFull
		}
	}
	return n, nil
}

// deadRow is a callback that was given up, and the number of its row, which is higher for
// those that were stored later.
type deadRow struct {
	id string
	no int64
}

// deadRowsPage is how many are read at a time.
const deadRowsPage = 1_000

// deadRows finds those named, or all of a backend.
func (s *Store) deadRows(ctx context.Context, backend string, ids []string, all bool) ([]deadRow, error) {
	var found []deadRow
	for after, more := "", true; more; {
		var page []deadRow
		err := s.do(ctx, func(w *writer) (err error) {
			if all {
				page, err = w.sql.deadPage(backend, after)
			} else {
				page, err = w.sql.deadNamed(ids)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
		if more = all && len(page) == deadRowsPage; more {
			after = page[len(page)-1].id
		}
	}
	return found, nil
}

func (s *statements) deadPage(backend, after string) (page []deadRow, err error) {
	err = with(s.deadRows).text(backend).text(after).int(deadRowsPage).each(func(r *sqlite3.Stmt) bool {
		page = append(page, deadRow{r.ColumnText(0), r.ColumnInt64(1)})
		return true
	})
	return page, err
}

func (s *statements) deadNamed(ids []string) (found []deadRow, err error) {
	for _, id := range ids {
		c, known, err := s.callback(id)
		if err != nil {
			return nil, err
		}
		if known {
			found = append(found, deadRow{id, c.no})
		}
	}
	return found, nil
}

// redrive makes dead callbacks due again, up to the first that has no room.
func (w *writer) redrive(backend string, dead []deadRow) (n int, full bool, err error) {
	for _, d := range dead {
		c, known, err := w.sql.callback(d.id)
		if err != nil {
			return n, false, err
		}
		if !known || !c.dead || c.backend != backend {
			continue
		}
		if waiting, bytes := w.outbox.stock(backend).all(); w.outbox.limit.exceeded(waiting+1, bytes+c.size) {
			return n, true, nil
		}
		if err := w.begin(); err != nil {
			return n, false, err
		}
		due := w.now
		if c.rank == rankSent {
			due = 0
		}
		if err := with(w.sql.sendAgain).int(w.now).int(due).int(c.no).exec(); err != nil {
			return n, false, err
		}
		w.outbox.change(backend, c.rank, true, -1, -c.size)
		w.outbox.change(backend, c.rank, false, 1, c.size)
		w.outbox.due = true
		n++
		if c.rank == rankSent {
			if err := w.moveUp(c.user, backend); err != nil {
				return n, false, err
			}
		}
	}
	return n, false, nil
}

// ofUserPage is how many callbacks of a user are read at a time.
const ofUserPage = 50

// OfUser implements bridge.Outbox.
func (s *Store) OfUser(ctx context.Context, user string, take func(c bridge.Callback, givenUp time.Time) error) error {
	var rows []int64
	err := s.do(ctx, func(w *writer) (err error) {
		rows, err = w.sql.rowsOf(user)
		return err
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(rows, ofUserPage) {
		var page []userCallback
		err := s.do(ctx, func(w *writer) (err error) {
			page, err = w.sql.userCallbacks(some)
			return err
		})
		if err != nil {
			return err
		}
		for _, c := range page {
			if err := take(c.Callback, c.givenUp); err != nil {
				return err
			}
		}
	}
	return nil
}

// userCallback is a callback in a user's export.
type userCallback struct {
	bridge.Callback
	givenUp time.Time // zero while it waits
}

// rowsOf are the numbers of the rows of a user's callbacks.
func (s *statements) rowsOf(user string) (rows []int64, err error) {
	err = with(s.callbackRows).text(user).each(func(r *sqlite3.Stmt) bool {
		rows = append(rows, r.ColumnInt64(0))
		return true
	})
	return rows, err
}

// userCallbacks reads those of some rows that are still there.
func (s *statements) userCallbacks(rows []int64) (all []userCallback, err error) {
	for _, no := range rows {
		err := with(s.wholeCallback).int(no).each(func(r *sqlite3.Stmt) bool {
			c := userCallback{Callback: bridge.Callback{ID: r.ColumnText(0), Backend: r.ColumnText(1), Type: r.ColumnText(2), User: r.ColumnText(3),
				At: instant(r.ColumnInt64(4)), Body: r.ColumnBlob(6, []byte{})}}
			if at := r.ColumnInt64(5); at != 0 {
				c.givenUp = instant(at)
			}
			all = append(all, c)
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pruneDead forgets callbacks that were given up long ago.
func (w *writer) pruneDead() (more bool, err error) {
	before := w.now - int64(bridge.DeadCallbacksFor)
	for backend, s := range w.outbox.stocks {
		if s.dead == 0 {
			continue
		}
		slice := w.slice(pruneIDs)
		old, err := with(w.sql.deadBefore).text(backend).int(before).int(slice.left).storedCallbacks()
		if err != nil {
			return false, err
		}
		for _, c := range old {
			if err := w.begin(); err != nil {
				return false, err
			}
			if err := w.removeCallback(c); err != nil {
				return false, err
			}
			if !slice.take(c.size) {
				more = true
				break
			}
		}
	}
	return more, nil
}

// eraseCallbacks removes a slice of those about a user.
func (w *writer) eraseCallbacks(user string) (more bool, err error) {
	slice := w.slice(eraseMail)
	of, err := with(w.sql.callbacksOf).text(user).int(slice.left).storedCallbacks()
	if err != nil {
		return false, err
	}
	for _, c := range of {
		if err := w.removeCallback(c); err != nil {
			return false, err
		}
		if !slice.take(c.size) {
			return true, nil
		}
	}
	return false, nil
}
