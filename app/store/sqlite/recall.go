package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Recall implements bridge.Store.
func (s *Store) Recall(ctx context.Context, id string) error {
	var notices []bridge.Notice
	return s.ask(ctx, &request{
		bulk: true,
		size: func(*writer) (places, bytes int) { return bulkFrom, 0 },
		write: func(w *writer) (err error) {
			notices, err = w.recall(id)
			return err
		},
		tell: func(s *Store, h bridge.Hub) { s.notify(h, notices...) },
	})
}

// recall takes a message out of every mailbox it lies in, and returns what its
// recipients are told.
func (w *writer) recall(id string) (notices []bridge.Notice, err error) {
	var row logged
	var perr error
	found, done := false, false
	err = with(w.sql.eventRow).text(id).each(func(s *sqlite3.Stmt) bool {
		row, perr = readLogged(s)
		found, done = true, s.ColumnInt64(5) != 0
		return false
	})
	if err := firstOf(err, perr); err != nil {
		return nil, err
	}
	if !found {
		return nil, refuse(bridge.ErrUnknown)
	}
	for _, p := range row.places {
		n := bridge.Notice{Kind: bridge.NoticeRecalled, User: p.user, ID: id}
		if p.user == "" {
			n.Broadcast = p.seq
		} else {
			n.Mailbox = p.seq
		}
		notices = append(notices, n)
	}
	if done { // all of it, in one transaction
		return notices, nil
	}
	if err := w.begin(); err != nil {
		return nil, err
	}
	if err := with(w.sql.recall).int(w.now).int(row.no).exec(); err != nil {
		return nil, err
	}
	w.store.checkpoints.wipe.Store(true)
	for _, p := range row.places {
		if err := w.recallFrom(p, row.topic); err != nil {
			return nil, err
		}
	}
	if !row.payload {
		return notices, nil
	}
	return notices, w.sql.forget(row.no, false)
}

func (w *writer) recallFrom(p place, topic string) error {
	if p.seq == 0 {
		return nil
	}
	if err := w.voidTimers(p.user, p.seq); err != nil {
		return err
	}
	l, err := w.sql.mailRow(p.user, p.seq)
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
