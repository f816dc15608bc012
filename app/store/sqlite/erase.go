package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Slices of an erasure, each in a transaction that messages share.
const (
	eraseMail    = 100    // messages of the mailbox
	scrubRows    = 20_000 // rows of log looked through for the user's name
	vacuumSlice  = 256    // pages given back to the file system
	truncateTurn = 50     // attempts to empty the write-ahead log
)

// Erase implements bridge.Store. It is done in slices, so that messages for
// others go on meanwhile.
func (e *Store) Erase(ctx context.Context, user string) error {
	if user == "" {
		return errNoUser
	}
	for {
		r := newRequest(kindErase)
		r.user = user
		if err := e.ask(ctx, r); err != nil {
			return err
		}
		more := r.yes
		r.release()
		if !more {
			break
		}
	}
	for from := int64(-1 << 63); ; {
		r := newRequest(kindScrub)
		r.user, r.at = user, from
		if err := e.ask(ctx, r); err != nil {
			return err
		}
		more := r.yes
		from = r.at
		r.release()
		if !more {
			break
		}
	}
	return e.shrink(ctx)
}

// shrink leaves nothing behind of what was deleted: free pages go back to the
// file system, and the write-ahead log is emptied.
func (e *Store) shrink(ctx context.Context) error {
	for {
		r := newRequest(kindVacuum)
		if err := e.ask(ctx, r); err != nil {
			return err
		}
		more := r.yes
		r.release()
		if !more {
			break
		}
	}
	select {
	case <-e.checked: // until then the log is needed as it is
	case <-ctx.Done():
		return ctx.Err()
	}
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for range truncateTurn {
		err := e.checkpoints.truncate()
		if err == nil {
			return nil
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
func (w *writer) erase(r *request) error {
	rec, err := w.record(r.user)
	if err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	w.touch(rec)
	type lying struct {
		seq uint64
		no  int64
	}
	var letters []lying
	slice := w.slice(eraseMail)
	err = with(w.store.mailOf).text(r.user).seq(0).int(slice.left).each(func(s *sqlite3.Stmt) bool {
		letters = append(letters, lying{uint64(s.ColumnInt64(0)), s.ColumnInt64(1)})
		return slice.take(s.ColumnInt64(2))
	})
	if err != nil {
		return err
	}
	for _, l := range letters {
		if err := with(w.store.deleteMail).text(r.user).seq(l.seq).exec(); err != nil {
			return err
		}
		if err := w.strike(l.no, r.user); err != nil {
			return err
		}
	}
	rec.held = unknown
	if slice.full {
		r.yes = true
		rec.trimmed = max(rec.trimmed, letters[len(letters)-1].seq)
		return w.store.save(rec)
	}
	if rec.head > 0 {
		if err := with(w.store.markErased).blob(bridge.MailboxHash(r.user)).seq(rec.head).exec(); err != nil {
			return err
		}
	}
	for _, s := range w.store.eraseAll {
		if err := with(s).text(r.user).exec(); err != nil {
			return err
		}
	}
	r.notices = []bridge.Notice{{Kind: bridge.NoticeErased, User: r.user}}
	return nil
}

// strike takes a user's name off a message, and frees the payload where no
// mailbox holds it any longer.
func (w *writer) strike(no int64, user string) error {
	row, err := w.store.row(no)
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
	if err := with(w.store.setTargets).blob(w.buf).int(row.no).exec(); err != nil || !row.payload {
		return err
	}
	for _, p := range left {
		if l, err := w.store.mailRow(p.user, p.seq); err != nil || l.no != 0 {
			return err // somebody else has it
		}
	}
	return w.store.forget(row.no, w.outlived(row.born))
}

// scrub looks through a slice of log for what still names the user: messages
// that are gone, or were never stored. One from the user that somebody else has
// keeps its sender.
func (w *writer) scrub(r *request) error {
	var named []logged
	var sent []int64
	var perr error
	rows := 0
	err := with(w.store.naming).blob([]byte(r.user)).text(r.user).int(r.at).int(scrubRows).each(func(s *sqlite3.Stmt) bool {
		rows++
		r.at = s.ColumnInt64(0)
		if s.ColumnBool(6) {
			sent = append(sent, r.at)
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
		return err
	}
	if r.yes = rows == scrubRows; !r.yes {
		if err := w.forgetSights(r.user); err != nil {
			return err
		}
	}
	for _, l := range named {
		if !slices.ContainsFunc(l.places, func(p place) bool { return p.user == r.user }) {
			continue // a part of another name
		}
		if slices.ContainsFunc(l.places, func(p place) bool { return p.user == r.user && w.kept(p) }) {
			continue // it came after the erasing
		}
		if err := w.begin(); err != nil {
			return err
		}
		if err := w.strikeRow(l, r.user); err != nil {
			return err
		}
	}
	for _, no := range sent {
		if err := w.begin(); err != nil {
			return err
		}
		// Its row may have moved a moment ago.
		if err := with(w.store.unsign).int(no).int(archived(no)).exec(); err != nil {
			return err
		}
	}
	return nil
}

// forgetSights takes out what came in of an erased user while messages still
// named them, unless they have come back.
func (w *writer) forgetSights(user string) error {
	rec, err := w.record(user)
	if err != nil || rec.seen {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	return with(w.store.dropSights).text(user).exec()
}

// kept reports whether a place lies in a mailbox. An error there comes again
// with the next statement.
func (w *writer) kept(p place) bool {
	l, err := w.store.mailRow(p.user, p.seq)
	return err == nil && l.no != 0
}

// vacuumAll gives free pages back, all of them in some slices.
func (w *writer) vacuumAll(r *request) error {
	free, err := queryInt(w.store.conn, "PRAGMA freelist_count")
	if err != nil || free == 0 {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	r.yes = true
	return w.store.conn.Exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", w.slice(vacuumSlice).left))
}
