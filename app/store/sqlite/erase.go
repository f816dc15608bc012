package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Slices of an erasure, each in a transaction that messages share.
const (
	eraseMail    = 100    // messages of the mailbox, or callbacks
	scrubRows    = 20_000 // rows of log looked through for the user's name
	vacuumSlice  = 256    // pages given back to the file system
	truncateTurn = 50     // attempts to empty the write-ahead log
)

// Erase implements bridge.Store. It is done in slices, so that messages for
// others go on meanwhile.
func (s *Store) Erase(ctx context.Context, user string) error {
	if user == "" {
		return errNoUser
	}
	for more := true; more; {
		if err := s.ask(ctx, erasing(user, &more)); err != nil {
			return err
		}
	}
	for from, more := int64(math.MinInt64), true; more; {
		err := s.do(ctx, func(w *writer) (err error) {
			from, more, err = w.scrub(user, from)
			return err
		})
		if err != nil {
			return err
		}
	}
	return s.shrink(ctx)
}

// erasing is one slice of an erasure. It says whether there is more to do; after an
// error more is not to be read, since the writer may still set it.
func erasing(user string, more *bool) *request {
	return &request{
		alone: true,
		write: func(w *writer) (err error) {
			*more, err = w.erase(user)
			return err
		},
		after: func(w *writer) {
			if !*more {
				w.erased(user)
			}
		},
		tell: func(s *Store, h bridge.Hub) {
			if !*more {
				s.notify(h, bridge.Notice{Kind: bridge.NoticeErased, User: user})
			}
		},
	}
}

// shrink leaves nothing behind of what was deleted: free pages go back to the
// file system, the write-ahead log is emptied, and the journal is taken away.
func (s *Store) shrink(ctx context.Context) error {
	for more := true; more; {
		err := s.do(ctx, func(w *writer) (err error) {
			more, err = w.vacuumAll()
			return err
		})
		if err != nil {
			return err
		}
	}
	select {
	case <-s.checked: // until then the log is needed as it is
	case <-ctx.Done():
		return ctx.Err()
	}
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for range truncateTurn {
		err := s.checkpoints.truncate()
		if err == nil {
			return s.do(ctx, (*writer).clearJournal)
		}
		if !errors.Is(err, sqlite3.BUSY) {
			return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w: the user is erased, but the write-ahead log is in use and could not be emptied; erase again", bridge.ErrUnavailable)
}

// erase empties a slice of the user's mailbox; with the last one goes all else.
func (w *writer) erase(user string) (more bool, err error) {
	rec, err := w.record(user)
	if err != nil {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	w.touch(rec)
	type mailRow struct {
		seq uint64
		no  int64
	}
	var rows []mailRow
	slice := w.slice(eraseMail)
	err = with(w.sql.mailOf).text(user).seq(0).int(slice.left).each(func(s *sqlite3.Stmt) bool {
		rows = append(rows, mailRow{uint64(s.ColumnInt64(0)), s.ColumnInt64(1)})
		return slice.take(s.ColumnInt64(2))
	})
	if err != nil {
		return false, err
	}
	for _, l := range rows {
		if err := with(w.sql.deleteMail).text(user).seq(l.seq).exec(); err != nil {
			return false, err
		}
		if err := w.strike(l.no, user); err != nil {
			return false, err
		}
	}
	rec.held = unknown
	if slice.full {
		rec.trimmed = max(rec.trimmed, rows[len(rows)-1].seq)
		return true, w.sql.save(rec)
	}
	if more, err := w.eraseCallbacks(user); more || err != nil {
		return more, err
	}
	if rec.head > 0 {
		if err := with(w.sql.markErased).blob(bridge.MailboxHash(user)).seq(rec.head).exec(); err != nil {
			return false, err
		}
	}
	for _, s := range w.sql.eraseAll {
		if err := with(s).text(user).exec(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// erased makes memory forget a user of whom nothing is left in the file.
func (w *writer) erased(user string) {
	clear(w.sizes)
	w.acks.forget(user)
	w.users.drop(user)
	w.erasures.add(user, time.Unix(0, w.now))
}

// strike takes a user's name off a message, and frees the payload where no
// mailbox holds it any longer.
func (w *writer) strike(no int64, user string) error {
	row, err := w.sql.row(no)
	if err != nil {
		return err
	}
	return w.strikeRow(row, user)
}

func (w *writer) strikeRow(row logged, user string) error {
	left := slices.DeleteFunc(row.places, func(p place) bool { return p.user == user })
	w.buf = w.buf[:0]
	for _, p := range left {
		w.buf = appendPlace(w.buf, p)
	}
	if err := with(w.sql.setTargets).blob(w.buf).int(row.no).exec(); err != nil || !row.payload {
		return err
	}
	for _, p := range left {
		if l, err := w.sql.mailRow(p.user, p.seq); err != nil || l.no != 0 {
			return err // somebody else has it
		}
	}
	return w.sql.forget(row.no, w.outlived(row.born))
}

// scrub removes the user's name from a slice of the log: from messages that are
// gone, or were never stored. A message from the user that another mailbox holds
// keeps its sender.
func (w *writer) scrub(user string, from int64) (next int64, more bool, err error) {
	var named []logged
	var sent []int64
	var perr error
	rows := 0
	next = from
	err = with(w.sql.naming).blob([]byte(user)).text(user).int(from).int(scrubRows).each(func(s *sqlite3.Stmt) bool {
		rows++
		next = s.ColumnInt64(0)
		if s.ColumnBool(6) {
			sent = append(sent, next)
		}
		if s.ColumnInt(5) == 0 {
			return true
		}
		var l logged
		if l, perr = readLogged(s); perr != nil {
			return false
		}
		named = append(named, l)
		return true
	})
	if err := firstOf(err, perr); err != nil {
		return next, more, err
	}
	if more = rows == scrubRows; !more {
		if err := w.forgetSeen(user); err != nil {
			return next, more, err
		}
	}
	for _, l := range named {
		if !slices.ContainsFunc(l.places, func(p place) bool { return p.user == user }) {
			continue // the name is a part of another name
		}
		if slices.ContainsFunc(l.places, func(p place) bool { return p.user == user && w.kept(p) }) {
			continue // it was appended after the user was erased
		}
		if err := w.begin(); err != nil {
			return next, more, err
		}
		if err := w.strikeRow(l, user); err != nil {
			return next, more, err
		}
	}
	for _, no := range sent {
		if err := w.begin(); err != nil {
			return next, more, err
		}
		// strikeRow may have moved the row.
		if err := with(w.sql.unsign).int(no).int(archived(no)).exec(); err != nil {
			return next, more, err
		}
	}
	return next, more, nil
}

// forgetSeen removes what was written of an erased user's Seen calls while
// messages still named the user, unless the user has joined again.
func (w *writer) forgetSeen(user string) error {
	rec, err := w.record(user)
	if err != nil || rec.seen {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	return with(w.sql.dropSeen).text(user).exec()
}

// kept reports whether a mailbox holds a message at a place. An error counts as no:
// the next statement fails as well.
func (w *writer) kept(p place) bool {
	l, err := w.sql.mailRow(p.user, p.seq)
	return err == nil && l.no != 0
}

// vacuumAll gives a slice of the free pages back to the file system.
func (w *writer) vacuumAll() (more bool, err error) {
	free, err := queryInt(w.sql.conn, "PRAGMA freelist_count")
	if err != nil || free == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	return true, w.sql.conn.Exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", w.slice(vacuumSlice).left))
}

// erasedFor is how long the time of an erasure is kept: longer than any call that
// began before it can take.
const erasedFor = 10 * time.Minute

// erasures has the time at which each user was erased, for erasedFor. Only the
// writer's goroutine uses it.
type erasures map[string]time.Time

func (e erasures) add(user string, at time.Time) {
	for u, was := range e {
		if at.Sub(was) > erasedFor {
			delete(e, u)
		}
	}
	e[user] = at
}

// after reports whether a session's user was erased after the session began.
func (e erasures) after(m bridge.Member) bool {
	at, ok := e[m.User]
	return ok && !m.Since.IsZero() && m.Since.Before(at)
}
