package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Count implements bridge.Archive. Rows that have expired count, too.
func (a *Archive) Count(ctx context.Context) (int64, error) {
	if err := a.usable(ctx); err != nil {
		return 0, err
	}
	n, err := queryInt(a.conn, `SELECT (SELECT count(*) FROM log) + (SELECT count(*) FROM erased) + (SELECT count(*) FROM users)
		+ (SELECT count(*) FROM mail) + (SELECT count(*) FROM members) + (SELECT count(*) FROM token_members) + (SELECT count(*) FROM revocations)
		+ (SELECT count(*) FROM trails) + (SELECT count(*) FROM sights) + (SELECT count(*) FROM callbacks) + (SELECT count(*) FROM timers)`)
	if err != nil {
		return 0, fmt.Errorf("count what is in %s: %w", a.path, err)
	}
	return n, nil
}

// dump is one run of Dump.
type dump struct {
	*Archive
	ctx   context.Context
	now   int64 // Unix nanoseconds
	take  func(e bridge.Entry) error
	lives *lives
}

// dumped are the queries that Dump goes through, and what becomes of their rows.
// Rows are read one by one, and so need no memory. Events come in the order of
// arrival, first those whose message is gone (see archived). Mailboxes whose users'
// names are not kept come before the others, so that what is known of a user who came
// back has the last word.
var dumped = []struct {
	query string
	row   func(d *dump, r *sqlite3.Stmt) error
}{
	{"SELECT name FROM lives ORDER BY no", (*dump).life},
	{`SELECT id, digest, born, expires, recalled, sender, type, at, barred, targets, event IS NOT NULL
		FROM log WHERE NOT (` + takenRow + `) ORDER BY no`, (*dump).event},
	{"SELECT name, head FROM erased ORDER BY name", (*dump).nameless},
	{"SELECT '' UNION SELECT user FROM users UNION SELECT user FROM mail ORDER BY 1", (*dump).mailbox},
	{"SELECT grp, user FROM members WHERE stored = 1 ORDER BY grp, user", (*dump).member},
	{"SELECT grp, user, token, token_id, issued, until FROM token_members ORDER BY grp, user, token", (*dump).token},
	{"SELECT user, token_id, issued_before FROM revocations ORDER BY user, token_id", (*dump).revocation},
	{"SELECT ended, trail FROM trails ORDER BY user, ended, session", (*dump).deliveryLog},
	{`SELECT sights.id, sights.user, sights.session, sights.at, log.born, log.expires, log.event IS NOT NULL
		FROM sights CROSS JOIN log ON log.id = sights.id ORDER BY sights.id, sights.user, sights.session`, (*dump).seen},
	{`SELECT id, backend, type, user, at, ifnull(due, 0), tries, since, dead, last, body FROM callbacks ORDER BY no`, (*dump).callback},
	{"SELECT id, topic, sender, born FROM log WHERE " + takenRow + " ORDER BY no", (*dump).taken},
	{"SELECT user, seq, kind, due, id, event, after FROM timers ORDER BY user, seq, kind", (*dump).timer},
}

// Dump implements bridge.Archive.
func (a *Archive) Dump(ctx context.Context, take func(e bridge.Entry) error) error {
	if err := a.usable(ctx); err != nil {
		return err
	}
	l, err := loadLives(a.conn)
	if err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	d := &dump{Archive: a, ctx: ctx, now: a.opts.Now().UnixNano(), take: take, lives: l}
	for _, part := range dumped {
		s, _, err := a.conn.Prepare(part.query)
		if err != nil {
			return fmt.Errorf("read %s: %w", a.path, err)
		}
		err = d.rows(with(s), func(r *sqlite3.Stmt) error { return part.row(d, r) })
		if err := firstOf(err, s.Close()); err != nil {
			return err
		}
	}
	return nil
}

// rows calls f for each row of an answer, up to its first error.
func (d *dump) rows(a args, f func(r *sqlite3.Stmt) error) error {
	var ferr error
	err := a.each(func(r *sqlite3.Stmt) bool {
		if ferr = d.ctx.Err(); ferr == nil {
			ferr = f(r)
		}
		return ferr == nil
	})
	if err != nil {
		err = fmt.Errorf("read %s: %w", d.path, err)
	}
	return firstOf(ferr, err)
}

// until is how long an id is remembered. It is forgotten with its message, or
// where that has gone before, after its time.
func (d *dump) until(born, expires int64, payload bool) int64 {
	until := born + int64(d.opts.IDRetention)
	if payload {
		until = max(until, expires)
	}
	return until
}

func (d *dump) life(r *sqlite3.Stmt) error {
	return d.take(bridge.Entry{Life: &bridge.LifeEntry{Name: r.ColumnText(0)}})
}

func (d *dump) event(r *sqlite3.Stmt) error {
	e := &bridge.EventEntry{ID: r.ColumnText(0), Digest: r.ColumnBlob(1, nil), Expires: r.ColumnInt64(3), Recalled: r.ColumnInt64(4),
		From: r.ColumnText(5), Type: r.ColumnText(6), At: r.ColumnInt64(7),
		Until: d.until(r.ColumnInt64(2), r.ColumnInt64(3), r.ColumnBool(10))}
	if e.Until <= d.now {
		return nil
	}
	var err error
	if e.Except, err = parseNames(r.ColumnRawBlob(8)); err != nil {
		return err
	}
	places, err := parsePlaces(r.ColumnRawBlob(9))
	if err != nil {
		return err
	}
	for _, p := range places {
		e.Places = append(e.Places, bridge.PlaceEntry{User: p.user, Seq: p.seq})
	}
	return d.take(bridge.Entry{Event: e})
}

func (d *dump) nameless(r *sqlite3.Stmt) error {
	return d.take(bridge.Entry{Mailbox: &bridge.MailboxEntry{Hash: r.ColumnBlob(0, nil), Head: uint64(r.ColumnInt64(1))}})
}

// mailbox gives where a user's mailbox stands, and what is in it. The first user is
// nobody: the log of messages to all.
func (d *dump) mailbox(r *sqlite3.Stmt) error {
	user := r.ColumnText(0)
	rec, err := d.sql.user(user)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	if user == "" && rec.head == 0 {
		return nil
	}
	m := &bridge.MailboxEntry{User: user, Head: rec.head, Trimmed: rec.trimmed,
		Seen: rec.seen, First: rec.first, Acked: rec.acked, LastSeen: rec.lastSeen}
	for _, s := range rec.lives {
		// For lives that the store has forgotten stands the oldest that it has not:
		// what was given out before the first of them ended there.
		name := d.lives.names[max(s.no, d.lives.oldest)]
		if n := len(m.Lives); name != "" && (n == 0 || m.Lives[n-1].Life != name) {
			m.Lives = append(m.Lives, bridge.LifeStart{Life: name, After: s.after})
		}
	}
	if err := d.gone(rec, m); err != nil {
		return err
	}
	if err := d.take(bridge.Entry{Mailbox: m}); err != nil {
		return err
	}
	return d.rows(with(d.messages).text(user).int(d.now), func(r *sqlite3.Stmt) error {
		return d.take(bridge.Entry{Message: &bridge.MessageEntry{User: user, Seq: uint64(r.ColumnInt64(0)), Expires: r.ColumnInt64(1),
			ID: r.ColumnText(2), Topic: r.ColumnText(3), Event: r.ColumnBlob(4, []byte{})}})
	})
}

// gone works out what is gone from a mailbox.
func (d *dump) gone(rec *record, m *bridge.MailboxEntry) error {
	var held []bridge.Range
	expired := rec.expired
	err := with(d.sql.downwards).text(rec.user).seq(rec.trimmed).each(func(r *sqlite3.Stmt) bool {
		if seq := uint64(r.ColumnInt64(0)); r.ColumnInt64(1) <= d.now {
			expired = max(expired, seq)
		} else {
			held = append(held, bridge.Range{First: seq, Last: seq})
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	slices.Reverse(held)
	m.Gone(held, removed(rec.explicit, expired, rec.head))
	return nil
}

func (d *dump) member(r *sqlite3.Stmt) error {
	return d.take(bridge.Entry{Membership: &bridge.MembershipEntry{Group: r.ColumnText(0), User: r.ColumnText(1), Stored: true}})
}

func (d *dump) token(r *sqlite3.Stmt) error {
	m := &bridge.MembershipEntry{Group: r.ColumnText(0), User: r.ColumnText(1),
		Token: r.ColumnText(2), TokenID: r.ColumnText(3), Issued: r.ColumnInt64(4), Until: r.ColumnInt64(5)}
	if m.Until <= d.now {
		return nil
	}
	return d.take(bridge.Entry{Membership: m})
}

func (d *dump) revocation(r *sqlite3.Stmt) error {
	v := &bridge.RevocationEntry{User: r.ColumnText(0), Revocation: bridge.Revocation{TokenID: r.ColumnText(1)}}
	if v.TokenID == "" {
		v.IssuedBefore = instant(r.ColumnInt64(2))
	}
	return d.take(bridge.Entry{Revocation: v})
}

func (d *dump) deliveryLog(r *sqlite3.Stmt) error {
	if r.ColumnInt64(0) < d.now-int64(d.opts.IDRetention) {
		return nil
	}
	t := new(bridge.DeliveryLog)
	if err := json.Unmarshal(r.ColumnRawBlob(1), t); err != nil {
		return fmt.Errorf("read a delivery log of %s: %w", d.path, err)
	}
	return d.take(bridge.Entry{DeliveryLog: t})
}

func (d *dump) seen(r *sqlite3.Stmt) error {
	if d.until(r.ColumnInt64(4), r.ColumnInt64(5), r.ColumnBool(6)) <= d.now {
		return nil
	}
	return d.take(bridge.Entry{Seen: &bridge.SeenEntry{ID: r.ColumnText(0), User: r.ColumnText(1), Session: r.ColumnText(2), At: r.ColumnInt64(3)}})
}
