package sqlite

import (
	"github.com/ncruces/go-sqlite3"
)

// A place that is missing in a mailbox above the trimmed watermark is a message
// that expired: that is how readers know of a loss without a list of losses. A
// message that is replaced or recalled goes without being a loss. The first
// time this happens to a mailbox, its record becomes explicit: from then on it
// says itself which place is the furthest that expired, and other holes mean
// nothing. Mailboxes to which it never happens pay nothing for it.

// takeOut removes an unexpired message of so many bytes from a mailbox so that nobody misses it.
func (w *writer) takeOut(rec *record, seq uint64, size int64) error {
	w.touch(rec)
	if err := w.makeExplicit(rec); err != nil {
		return err
	}
	if err := with(w.store.deleteMail).text(rec.user).seq(seq).exec(); err != nil {
		return err
	}
	if rec.held != unknown {
		rec.held--
		rec.bytes -= size
	}
	if seq == rec.head && rec.kept < seq {
		return w.store.save(rec)
	}
	return nil
}

// makeExplicit finds the furthest place that expired, once in a mailbox's life.
func (w *writer) makeExplicit(rec *record) error {
	if rec.explicit {
		return nil
	}
	next := rec.head // the place that is expected to be there
	var expired uint64
	err := with(w.store.downwards).text(rec.user).seq(rec.trimmed).each(func(r *sqlite3.Stmt) bool {
		seq := uint64(r.ColumnInt64(0))
		switch {
		case seq < next:
			expired = next
		case r.ColumnInt64(1) <= w.now:
			expired = seq
		}
		next = seq - 1
		return expired == 0
	})
	if err != nil {
		return err
	}
	if expired == 0 && next > rec.trimmed {
		expired = next
	}
	rec.explicit, rec.expired = true, expired
	return w.store.save(rec)
}

// replace takes the newest message of a topic out of a mailbox, unless the user
// has acked it. Of messages to all each user has acked something else; there the
// newer one always takes its place.
func (w *writer) replace(rec *record, topic string) error {
	seq, err := w.store.topic(rec.user, topic)
	if err != nil || seq == 0 || rec.user != "" && seq <= rec.acked.Mailbox {
		return err
	}
	l, err := w.store.mailRow(rec.user, seq)
	if err != nil || l.expires <= w.now {
		return err
	}
	if err := w.takeOut(rec, seq, l.size); err != nil {
		return err
	}
	return w.freeOnly(l.no, rec.user, seq)
}

// dropTopic forgets that a place holds the newest message of a topic.
func (w *writer) dropTopic(topic string, p place) error {
	if topic == "" {
		return nil
	}
	return with(w.store.deleteTopic).text(p.user).text(topic).seq(p.seq).exec()
}
