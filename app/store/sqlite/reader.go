package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// readerCount is how many reads go on at the same time; reads are short.
const readerCount = 4

// reader is one reading connection and its statements. In the write-ahead log's
// mode it sees the last commit and waits for no writer.
type reader struct {
	looked               func(error) error // health.looked
	conn                 *sqlite3.Conn
	begin, end           *sqlite3.Stmt
	user, newest, places *sqlite3.Stmt
	mail, all            *sqlite3.Stmt

	erased, event, held, owners *sqlite3.Stmt
	standing, seen, endedLogs   *sqlite3.Stmt
	members, groups, lastSeen   *sqlite3.Stmt
}

func newReader(c *sqlite3.Conn) (*reader, error) {
	// Rows whose time has run out are in it: they say that something expired.
	const rows = `SELECT mail.seq, mail.no, mail.expires, log.id, log.sender, log.digest, log.barred, log.event,
		log.type, log.at, ifnull(log.topic, '')
		FROM mail CROSS JOIN log ON log.no = mail.no
		WHERE mail.user = ? AND mail.seq > ? ORDER BY mail.seq`
	r := &reader{conn: c}
	err := prepareAll(c, map[**sqlite3.Stmt]string{
		&r.begin:  "BEGIN",
		&r.end:    "COMMIT",
		&r.user:   "SELECT head, trimmed, seen, first, explicit, expired, lives FROM users WHERE user = ?",
		&r.newest: "SELECT seq FROM mail WHERE user = ? ORDER BY seq DESC LIMIT 1",
		&r.places: "SELECT seq FROM mail WHERE user = ? AND seq > ? AND expires > ? ORDER BY seq",
		&r.mail:   rows,
		&r.all:    rows, // both are open at the same time
		&r.erased: "SELECT head FROM erased WHERE name = ?",
		&r.event:  "SELECT type, at, sender, expires, recalled, barred, targets FROM log WHERE id = ?",
		&r.held:   "SELECT 1 FROM mail WHERE user = ? AND seq = ? AND expires > ?",
		&r.owners: "SELECT user, acked_all FROM users WHERE seen = 1 AND first < ? AND user <> '' ORDER BY user LIMIT ?",

		&r.standing:  "SELECT acked_mail FROM users WHERE user = ?",
		&r.seen:      "SELECT user, session, at FROM sights WHERE id = ? ORDER BY at, session",
		&r.endedLogs: "SELECT trail FROM trails WHERE user = ? ORDER BY ended, session",
		&r.members: `SELECT user FROM members WHERE grp = ?1 AND stored = 1
			UNION SELECT user FROM token_members WHERE grp = ?1 AND until > ?2 ORDER BY user`,
		&r.groups: `SELECT grp FROM members WHERE user = ?1 AND stored = 1
			UNION SELECT grp FROM token_members WHERE user = ?1 AND until > ?2 ORDER BY grp`,
		&r.lastSeen: "SELECT last_seen FROM users WHERE user = ?",
	})
	return r, err
}

// view runs f on one consistent state of the file.
func (r *reader) view(f func() error) error {
	if err := r.begin.Exec(); err != nil {
		return r.looked(err)
	}
	err := f()
	if eerr := r.end.Exec(); err == nil {
		err = eerr
	}
	return r.looked(err)
}

// shelf is one of the two logs a user reads, with what is known of its ends.
type shelf struct {
	head, trimmed uint64
	seen          bool
	first         uint64
	explicit      bool   // see gaps.go
	expired       uint64 // where explicit
	lives         []lifeStart
}

func (r *reader) shelf(user string) (shelf, error) {
	var s shelf
	known := false
	err := with(r.user).text(user).row(func(row *sqlite3.Stmt) (err error) {
		s.head, s.trimmed = uint64(row.ColumnInt64(0)), uint64(row.ColumnInt64(1))
		s.seen, s.first = row.ColumnBool(2), uint64(row.ColumnInt64(3))
		s.explicit, s.expired = row.ColumnBool(4), uint64(row.ColumnInt64(5))
		s.lives, err = parseLifeStarts(row.ColumnRawBlob(6))
		known = true
		return err
	})
	if err != nil {
		return s, err
	}
	if !known {
		err := with(r.erased).blob(bridge.MailboxHash(user)).each(func(row *sqlite3.Stmt) bool {
			s.head = uint64(row.ColumnInt64(0))
			s.trimmed = s.head
			return false
		})
		if err != nil {
			return s, err
		}
	}
	return s, with(r.newest).text(user).each(func(row *sqlite3.Stmt) bool {
		s.head = max(s.head, uint64(row.ColumnInt64(0)))
		return false
	})
}

// shelves returns the user's mailbox and the log of messages to all, and where
// reading starts: messages to all from before the user was first seen are not
// theirs, and somebody never seen owns none.
func (r *reader) shelves(user string, after bridge.Position) (mine, all shelf, from bridge.Position, err error) {
	if mine, err = r.shelf(user); err != nil {
		return
	}
	if all, err = r.shelf(""); err != nil {
		return
	}
	if !mine.seen {
		mine.first = all.head
	}
	after.Broadcast = max(after.Broadcast, mine.first)
	return mine, all, after, nil
}

// readers lends the reading connections.
type readers struct {
	idle    chan *reader
	closing chan struct{}
}

func newReaders(n int) *readers {
	return &readers{idle: make(chan *reader, n), closing: make(chan struct{})}
}

func (p *readers) take(ctx context.Context) (*reader, error) {
	select {
	case <-p.closing:
		return nil, bridge.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r := <-p.idle:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closing:
		return nil, bridge.ErrClosed
	}
}

func (p *readers) give(r *reader) { p.idle <- r }

// close waits until every reader is back.
func (p *readers) close() {
	close(p.closing)
	for range cap(p.idle) {
		<-p.idle
	}
}
