package sqlite

import (
	"iter"

	"hookbridge/app/bridge"

	"github.com/ncruces/go-sqlite3"
)

// What is missing in a mailbox behind its trimmed mark has expired, so that no list
// of losses is kept (see bridge/gaps.go). A message that is replaced or recalled goes
// without being a loss: from the first time on that this happens to a mailbox, its
// record is explicit and says itself which place is the furthest that expired. What is
// missing behind that place was removed on purpose. A mailbox to which it never
// happens pays nothing for it.

// takeOut removes an unexpired message of so many bytes from a mailbox so that nobody misses it.
func (w *writer) takeOut(rec *record, seq uint64, size int64) error {
	w.touch(rec)
	if err := w.makeExplicit(rec); err != nil {
		return err
	}
	if err := with(w.sql.deleteMail).text(rec.user).seq(seq).exec(); err != nil {
		return err
	}
	if err := w.voidTimers(rec.user, seq); err != nil {
		return err
	}
	if rec.held != unknown {
		rec.held--
		rec.bytes -= size
	}
	if seq == rec.head && rec.kept < seq {
		return w.sql.save(rec)
	}
	return nil
}

// makeExplicit finds the furthest place that expired, once in a mailbox's life.
func (w *writer) makeExplicit(rec *record) (err error) {
	if rec.explicit {
		return nil
	}
	rec.explicit = true
	for gap := range bridge.Gaps(rec.trimmed, rec.head, w.sql.unexpired(rec, w.now, &err)) {
		rec.expired = gap.Last
		break
	}
	return firstOf(err, w.sql.save(rec))
}

// unexpired yields the places that hold unexpired messages, furthest first, and sets
// err where reading fails.
func (s *statements) unexpired(rec *record, now int64, err *error) iter.Seq[bridge.Range] {
	return func(yield func(bridge.Range) bool) {
		*err = with(s.downwards).text(rec.user).seq(rec.trimmed).each(func(r *sqlite3.Stmt) bool {
			seq := uint64(r.ColumnInt64(0))
			return r.ColumnInt64(1) <= now || yield(bridge.Range{First: seq, Last: seq})
		})
	}
}

// removed says, of a mailbox that is explicit, that each place after the furthest that
// expired is either held or was removed on purpose.
func removed(explicit bool, expired, head uint64) []bridge.Range {
	if !explicit {
		return nil
	}
	return []bridge.Range{{First: expired + 1, Last: head}}
}

// replace takes the newest message of a topic out of a mailbox, unless the user
// has acked it. Of messages to all each user has acked something else; there the
// newer one always takes its place.
func (w *writer) replace(rec *record, topic string) error {
	seq, err := w.sql.topic(rec.user, topic)
	if err != nil || seq == 0 || rec.user != "" && seq <= rec.acked.Mailbox {
		return err
	}
	l, err := w.sql.mailRow(rec.user, seq)
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
	return with(w.sql.deleteTopic).text(p.user).text(topic).seq(p.seq).exec()
}
