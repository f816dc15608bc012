package sqlite

import (
	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// recall takes a message out of every mailbox it lies in.
func (w *writer) recall(r *request) error {
	var row logged
	var perr error
	found, done := false, false
	err := with(w.store.eventRow).text(r.name).each(func(s *sqlite3.Stmt) bool {
		row, perr = readLogged(s)
		found, done = true, s.ColumnInt64(5) != 0
		return false
	})
	if err := firstOf(err, perr); err != nil {
		return err
	}
	if !found {
		r.err = bridge.ErrUnknown
		return nil
	}
	for _, p := range row.places {
		n := bridge.Notice{Kind: bridge.NoticeRecalled, User: p.user, ID: r.name}
		if p.user == "" {
			n.Broadcast = p.seq
		} else {
			n.Mailbox = p.seq
		}
		r.notices = append(r.notices, n)
	}
	if done { // all of it, in one transaction
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	if err := with(w.store.people.recall).int(w.now).int(row.no).exec(); err != nil {
		return err
	}
	for _, p := range row.places {
		if err := w.recallFrom(p, row.topic); err != nil {
			return err
		}
	}
	if !row.payload {
		return nil
	}
	return w.store.forget(row.no, false)
}

func (w *writer) recallFrom(p place, topic string) error {
	if p.seq == 0 {
		return nil
	}
	l, err := w.store.mailRow(p.user, p.seq)
	if err != nil || l.no == 0 {
		return err
	}
	if err := w.dropTopic(topic, p); err != nil {
		return err
	}
	rec, err := w.record(p.user)
	if err != nil {
		return err
	}
	if l.expires > w.now {
		return w.takeOut(rec, p.seq, l.size)
	}
	w.touch(rec)
	return w.removeExpired(p) // it was gone before it was recalled
}
