package sqlite

import (
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/journal"
)

// errOutOfStep: the journal's messages do not follow on what the file has.
var errOutOfStep = fmt.Errorf("%w: the journal does not continue bridge.db", errDamaged)

// recoverJournal appends the messages that a process which was killed has left in the journal,
// in the life in which they came, and takes the journal away.
func (w *writer) recoverJournal() error {
	dir := w.opts.Dir
	path, err := journal.Present(dir)
	if err != nil || path == "" {
		return err
	}
	entries, others, err := journal.Read(dir, w.store.lives.name, w.filled)
	if err != nil {
		return fmt.Errorf("%w: put a backup of the whole folder in its place, or move the journal away to go on without the messages in it", err)
	}
	if others > 0 {
		w.opts.Logger.Warn("the journal is of another time than bridge.db, which was put back: it is not used", "journal", path, "entries", others)
	}
	filled := w.filled
	_, err = w.attempt(func() (bool, error) {
		for _, e := range entries {
			var err error
			if e.Segment > filled+1 {
				err = errOutOfStep
			} else {
				err = w.replay(e.Data)
			}
			if errors.Is(err, errOutOfStep) {
				w.opts.Logger.Error("bridge.db is older than the journal beside it, as after a backup was put back: the rest of the journal is not used", "journal", path)
				break
			}
			if err != nil {
				return false, err
			}
			filled = e.Segment
		}
		if !w.inTx && filled == w.filled {
			return false, nil
		}
		if err := w.begin(); err != nil { // the file may have had all of it, unmarked
			return false, err
		}
		if err := with(w.sql.setFilled).int(int64(filled)).exec(); err != nil {
			return false, err
		}
		return true, w.commitTx()
	})
	if err != nil {
		return fmt.Errorf("take over the journal %s: %w", path, err)
	}
	w.filled = filled
	return w.tail.journal.Remove()
}

// refill appends the messages of the tail once more, after their transaction was rolled
// back. On a full disk each group is committed at once, since that takes less room.
func (w *writer) refill() (bool, error) {
	entries, err := w.tail.journal.Current()
	if err != nil {
		return false, err
	}
	for _, data := range entries {
		if err := w.replay(data); err != nil {
			return false, err
		}
		if w.inTx && w.store.health.isFull() {
			if err := w.commitTx(); err != nil {
				return false, err
			}
		}
	}
	w.tail.adrift = false
	return false, nil
}

// replay appends the messages of one of the journal's entries that the file does not have.
func (w *writer) replay(data []byte) error {
	for len(data) > 0 {
		j, rest, err := parseJournaled(data)
		if err != nil {
			return fmt.Errorf("%w: %w", errOutOfStep, err)
		}
		data = rest
		if j.no < w.nextNo {
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		if err := w.inStep(j); err != nil {
			return err
		}
		w.now, w.nextNo = j.born, j.no
		a := &appending{msg: j.msg}
		if err := w.append(a); err != nil {
			return err
		}
		if a.fresh {
			continue
		}
		// The same transaction had forgotten the id before, because it was old.
		a.receipt = bridge.Receipt{}
		if err := w.forgetOld(j.msg.ID); err != nil {
			return err
		}
		if err := w.append(a); err != nil {
			return err
		}
		if !a.fresh {
			return errOutOfStep
		}
	}
	return nil
}

// inStep is errOutOfStep unless a message will get the places that it has.
func (w *writer) inStep(j journaled) error {
	if !j.msg.Stored() {
		return nil
	}
	for _, p := range j.places {
		rec, err := w.record(p.user)
		if err != nil {
			return err
		}
		if rec.head+1 != p.seq {
			return errOutOfStep
		}
	}
	return nil
}

// forgetOld forgets the id of a message that is gone.
func (w *writer) forgetOld(id string) error {
	var row logged
	var perr error
	err := with(w.sql.eventRow).text(id).each(func(s *sqlite3.Stmt) bool {
		row, perr = readLogged(s)
		return false
	})
	if err := firstOf(err, perr); err != nil || row.no >= 0 {
		return err
	}
	return with(w.sql.deleteLog).int(row.no).exec()
}
