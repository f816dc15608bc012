package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// Upkeep is done in slices, each in a transaction that messages share, so that
// none waits long.
const (
	pruneMessages   = 128   // expired messages
	pruneRecipients = 1_000 // places of those messages in mailboxes
	pruneIDs        = 256   // ids
	vacuumPages     = 32    // pages given back to the file system
	vacuumAbove     = 1_024 // free pages that are kept for reuse in any case
)

// pruner takes out what has expired and forgets old ids.
type pruner struct {
	backlog bool // there is work, as far as known
}

func (p *pruner) due() { p.backlog = true }

// failed waits for the next tick.
func (p *pruner) failed() { p.backlog = false }

// logged is a row of log on its way out.
type logged struct {
	no, born int64
	places   []place
	topic    string
	payload  bool // it has not been given up yet
}

// slice bounds what one transaction of upkeep takes out: so many things, and so
// many bytes of payload. What is deleted is overwritten, and so written again.
type slice struct {
	left, bytes int64
	full        bool // the bounds are reached: there may be more
}

// sliceOnFull is how many things are taken out at once while the disk is full: to
// delete needs some room in the write-ahead log, too.
const sliceOnFull = 4

// slice is for n things at most.
func (w *writer) slice(n int64) *slice {
	if w.store.health.isFull() {
		n = min(n, sliceOnFull)
	}
	return &slice{left: n, bytes: w.store.reserve.size / 2}
}

// take counts one thing, and tells whether another fits.
func (s *slice) take(bytes int64) bool {
	s.left--
	s.bytes -= bytes
	s.full = s.left <= 0 || s.bytes <= 0
	return !s.full
}

// pruneSlice does one slice of upkeep in the running transaction.
func (w *writer) pruneSlice() error {
	if !w.prune.backlog {
		return nil
	}
	more, err := w.pruneExpired()
	if err != nil {
		return err
	}
	moreIDs, err := w.pruneIDs()
	if err != nil {
		return err
	}
	moreLogs, err := w.pruneDeliveryLogs()
	if err != nil {
		return err
	}
	moreTokens, err := w.pruneTokens()
	if err != nil {
		return err
	}
	moreCallbacks, err := w.pruneDead()
	if err != nil {
		return err
	}
	w.prune.backlog = more || moreIDs || moreLogs || moreTokens || moreCallbacks
	if !w.prune.backlog {
		w.prune.backlog, err = w.vacuum()
	}
	return err
}

func (w *writer) pruneExpired() (more bool, err error) {
	var rows []logged
	var perr error
	recipients := 0
	slice := w.slice(pruneMessages)
	err = with(w.sql.expired).int(w.now).int(slice.left).each(func(r *sqlite3.Stmt) bool {
		row := logged{no: r.ColumnInt64(0), born: r.ColumnInt64(1), topic: r.ColumnText(3)}
		if row.places, perr = parsePlaces(r.ColumnRawBlob(2)); perr != nil {
			return false
		}
		rows = append(rows, row)
		recipients += len(row.places)
		return slice.take(r.ColumnInt64(4)) && recipients < pruneRecipients
	})
	if err := firstOf(err, perr); err != nil || len(rows) == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	for _, row := range rows {
		for _, p := range row.places {
			if err := w.removeExpired(p); err != nil {
				return false, err
			}
			if err := w.dropTopic(row.topic, p); err != nil {
				return false, err
			}
		}
		if err := w.sql.forget(row.no, w.outlived(row.born)); err != nil {
			return false, err
		}
	}
	w.store.metrics.pruned.Add(float64(len(rows)))
	return slice.full || recipients >= pruneRecipients, nil
}

// removeExpired takes a row out of a mailbox. Where it is the newest one, the
// users table has to remember the sequence from now on.
func (w *writer) removeExpired(p place) error {
	rec, err := w.record(p.user)
	if err != nil {
		return err
	}
	if rec.explicit {
		if err := w.expireExplicit(rec, p.seq); err != nil {
			return err
		}
	} else if p.seq == rec.head && rec.kept < p.seq {
		w.touch(rec)
		if err := w.sql.save(rec); err != nil {
			return err
		}
	}
	return with(w.sql.deleteMail).text(p.user).seq(p.seq).exec()
}

// expireExplicit notes the furthest place that expired. It passes over a message
// that was taken out of this mailbox earlier and now expires in others.
func (w *writer) expireExplicit(rec *record, seq uint64) error {
	l, err := w.sql.mailRow(rec.user, seq)
	if err != nil || l.no == 0 {
		return err
	}
	w.touch(rec)
	rec.expired = max(rec.expired, seq)
	return w.sql.save(rec)
}

// pruneIDs forgets the ids of messages that are gone, once they are old enough.
func (w *writer) pruneIDs() (more bool, err error) {
	var old []int64
	err = with(w.sql.oldIDs).int(pruneIDs).each(func(r *sqlite3.Stmt) bool {
		if !w.outlived(r.ColumnInt64(1)) {
			return false
		}
		old = append(old, r.ColumnInt64(0))
		return true
	})
	if err != nil || len(old) == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	if err := with(w.sql.forgetSeen).int(old[len(old)-1]).exec(); err != nil {
		return false, err
	}
	for _, no := range old {
		if err := with(w.sql.deleteLog).int(no).exec(); err != nil {
			return false, err
		}
	}
	return len(old) == pruneIDs, nil
}

// vacuum gives a few pages back to the file system while more than a quarter of
// the file is free, and all free pages while the disk is full. Otherwise they are
// kept, since new messages will need them.
func (w *writer) vacuum() (more bool, err error) {
	free, err := queryInt(w.sql.conn, "PRAGMA freelist_count")
	full := w.store.health.isFull()
	if err != nil || free == 0 || free <= vacuumAbove && !full {
		return false, err
	}
	pages, err := queryInt(w.sql.conn, "PRAGMA page_count")
	if err != nil || free <= pages/4 && !full {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	return true, w.sql.conn.Exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", w.slice(vacuumPages).left))
}
