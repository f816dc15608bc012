package sqlite

import (
	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// recall takes a message out of every mailbox it lies in.
func (w *writer) recall(r *request) error {
	var row logged
	var perr error
	found := false
	err := with(w.store.eventRow).text(r.name).each(func(s *sqlite3.Stmt) bool {
		row, perr = readLogged(s)
		found = true
		return false
	})
	if err := firstOf(err, perr); err != nil {
		return err
	}
	if !found {
		r.err = bridge.ErrUnknown
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	if err := with(w.store.people.recall).int(w.now).int(row.no).exec(); err != nil {
		return err
	}
	for _, p := range row.places {
		n := bridge.Notice{Kind: bridge.NoticeRecalled, User: p.user, ID: r.name}
		if p.user == "" {
			n.Broadcast = p.seq
		} else {
			n.Mailbox = p.seq
		}
		r.notices = append(r.notices, n)
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
	no, expires, err := w.store.mailRow(p.user, p.seq)
	if err != nil || no == 0 {
		return err
	}
	if err := w.dropTopic(topic, p); err != nil {
		return err
	}
	rec, err := w.record(p.user)
	if err != nil {
		return err
	}
	if expires > w.now {
		return w.takeOut(rec, p.seq, true)
	}
	w.touch(rec)
	return w.removeExpired(p) // it was gone before it was recalled
}
