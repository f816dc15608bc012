package sqlite

import (
	"math"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// unknown marks record.held as not counted yet.
const unknown = -1

// record is where one user stands, as the writer knows it; the log of messages
// to all is the record of "".
type record struct {
	user    string
	head    uint64 // the newest sequence given out
	kept    uint64 // head as it stands in the users table
	trimmed uint64 // the newest sequence pushed out of a full mailbox
	seen    bool   // has joined once

	noTokens bool // no token of theirs names a group: token_members has no row

	first uint64 // head of the log to all when first seen
	acked bridge.Position

	explicit bool   // not every gap is an expired message (see gaps.go)
	expired  uint64 // where it is: the furthest that expired
	lives    []lifeStart
	lastSeen int64 // when a session joined or left, Unix nanoseconds; 0: never

	// deposited is the payload (bytes) of all that was ever put in, and
	// trimmedBytes that of what was up to trimmed: the mailbox holds no more than
	// the difference.
	deposited, trimmedBytes int64

	wants *wants // what backends want to hear of the user; nil: not looked up yet

	// held counts the unexpired rows, bytes their payload, and soonest is when the
	// first of them expires (Unix nanoseconds). They are only counted for a
	// mailbox that might be full.
	held    int
	bytes   int64
	soonest int64
}

// records is the writer's memory of users, bounded by two generations: what is
// used stays in the young one, and when that is full the old one is forgotten.
type records struct {
	young, old map[string]*record
	limit      int
}

// recordLimit is how many records each generation holds (about 200 bytes each).
const recordLimit = 1 << 16

func newRecords(limit int) *records {
	return &records{young: make(map[string]*record), old: make(map[string]*record), limit: limit}
}

func (c *records) get(user string) *record {
	if rec := c.young[user]; rec != nil {
		return rec
	}
	rec := c.old[user]
	if rec != nil {
		c.put(rec)
	}
	return rec
}

func (c *records) put(rec *record) {
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[string]*record, c.limit/8)
	}
	c.young[rec.user] = rec
}

func (c *records) drop(user string) {
	delete(c.young, user)
	delete(c.old, user)
}

// record returns a user's record, from memory or from the file. What the ackBook has, and
// the file not yet, counts.
func (w *writer) record(user string) (*record, error) {
	if rec := w.users.get(user); rec != nil {
		return rec, nil
	}
	rec, err := w.sql.user(user)
	if err != nil {
		return nil, err
	}
	if d, ok := w.acks.of(user); ok {
		rec.acked, rec.lastSeen = rec.acked.Max(d.acked), max(rec.lastSeen, d.seen)
	}
	w.users.put(rec)
	return rec, nil
}

// touch marks a record as changed by this transaction: if that fails, memory is
// wrong about it and has to be read again.
func (w *writer) touch(rec *record) { w.touched = append(w.touched, rec.user) }

// deposit puts one message into one mailbox, in a transaction, and pushes out
// what no longer fits.
func (w *writer) deposit(rec *record, no, expires int64, size int) error {
	if w.lived(rec) {
		if err := w.sql.save(rec); err != nil {
			return err
		}
	}
	rec.head++
	rec.deposited += int64(size)
	err := with(w.sql.insertMail).text(rec.user).seq(rec.head).int(no).int(expires).int(int64(size)).int(rec.deposited).exec()
	if err != nil {
		return err
	}
	if rec.held != unknown {
		rec.held++
		rec.bytes += int64(size)
		rec.soonest = min(rec.soonest, expires)
	}
	limit, room := w.opts.MailboxLimit, int64(w.opts.MailboxBytes)
	if rec.user == "" {
		limit, room = w.opts.BroadcastLimit, int64(w.opts.BroadcastBytes)
	}
	if rec.head-rec.trimmed <= uint64(limit) && rec.deposited-rec.trimmedBytes <= room {
		return nil
	}
	return w.trim(rec, limit, room)
}

// trim takes the oldest unexpired messages out of a mailbox beyond its limits, but
// for the newest one. Expired ones that still have rows take no room.
func (w *writer) trim(rec *record, limit int, room int64) error {
	if rec.held == unknown || w.now >= rec.soonest {
		if err := w.count(rec); err != nil {
			return err
		}
	}
	full := func() bool { return rec.held > limit || rec.bytes > room && rec.held > 1 }
	if !full() {
		return nil
	}
	for full() {
		var no, size, deposited int64
		var seq uint64
		err := with(w.sql.oldestLive).text(rec.user).seq(rec.trimmed).int(w.now).each(func(r *sqlite3.Stmt) bool {
			seq, no, size, deposited = uint64(r.ColumnInt64(0)), r.ColumnInt64(1), r.ColumnInt64(2), r.ColumnInt64(3)
			return false
		})
		if err != nil {
			return err
		}
		rec.held--
		rec.bytes -= size
		rec.trimmedBytes = max(rec.trimmedBytes, deposited)
		if err := with(w.sql.deleteMail).text(rec.user).seq(seq).exec(); err != nil {
			return err
		}
		rec.trimmed = seq
		if err := w.trimTimers(rec.user, seq, limit); err != nil {
			return err
		}
		if err := w.freeOnly(no, rec.user, seq); err != nil {
			return err
		}
	}
	return w.sql.save(rec)
}

func (w *writer) count(rec *record) error {
	return with(w.sql.countLive).text(rec.user).int(w.now).each(func(r *sqlite3.Stmt) bool {
		rec.held, rec.bytes, rec.soonest = int(r.ColumnInt64(0)), 0, math.MaxInt64
		if rec.held > 0 {
			rec.soonest = r.ColumnInt64(1)
			rec.bytes = r.ColumnInt64(2)
		}
		return false
	})
}

// freeOnly gives back the payload of a message that was taken out of its only
// mailbox. One that others may still hold is noted for freeLoose.
func (w *writer) freeOnly(no int64, user string, seq uint64) error {
	b, err := w.sql.brief(no)
	if err != nil {
		return err
	}
	if err := w.dropTopic(b.topic, place{user, seq}); err != nil {
		return err
	}
	if !b.several {
		return w.sql.forget(no, w.outlived(b.born))
	}
	if !slices.Contains(w.loose, no) && len(w.loose) < maxLoose {
		w.loose = append(w.loose, no)
	}
	return nil
}

// maxLoose is for how many messages one append finds out whether a mailbox still
// holds them. The payloads of others stay until they expire.
const maxLoose = 4

// freeLoose gives back the payloads of messages that an append to several has taken
// out of the last mailbox that had them: otherwise each message of a topic would be
// kept until it expires. An append to one mailbox does not look.
func (w *writer) freeLoose(recipients int) error {
	if recipients < 2 {
		return nil
	}
	for _, no := range w.loose {
		row, err := w.sql.row(no)
		if err != nil {
			return err
		}
		if row.no == 0 || !row.payload {
			continue
		}
		held := false
		for _, p := range row.places {
			l, err := w.sql.mailRow(p.user, p.seq)
			if err != nil {
				return err
			}
			if held = l.no == no; held {
				break
			}
		}
		if !held {
			if err := w.sql.forget(no, w.outlived(row.born)); err != nil {
				return err
			}
		}
	}
	return nil
}

// outlived reports whether the id of a message that arrived then need not be
// remembered any longer.
func (w *writer) outlived(born int64) bool { return w.now-born >= int64(w.opts.IDRetention) }

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
