package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// loading is an Archive's statements for what an import writes, beside the store's
// own. Each leaves things as they are where an entry comes twice.
type loading struct {
	addEvent, findEvent, revive *sqlite3.Stmt
	placeMail, newerTopic       *sqlite3.Stmt
	setMeta, dropMeta           *sqlite3.Stmt
	addLife, lifeNo, dropLives  *sqlite3.Stmt

	nextNo int64 // of the next event
	buf    []byte
}

func (l *loading) prepare(c *sqlite3.Conn, s *statements) (err error) {
	if l.nextNo, err = s.nextNo(); err != nil {
		return err
	}
	return prepareAll(c, map[**sqlite3.Stmt]string{
		&l.addEvent: `INSERT INTO log (no, id, digest, born, expires, targets, sender, barred, type, at, recalled)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		&l.findEvent: "SELECT no FROM log WHERE id = ?",
		&l.revive:    "UPDATE log SET no = ?, event = ?, topic = ? WHERE no = ?",
		&l.placeMail: `INSERT INTO mail (user, seq, no, expires, size, deposited) VALUES (?1, ?2, ?3, ?4, ?5, ?5 + ifnull(
			(SELECT deposited FROM mail WHERE user = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1), 0)) ON CONFLICT DO NOTHING`,
		&l.newerTopic: `INSERT INTO topics (user, topic, seq) VALUES (?, ?, ?)
			ON CONFLICT (user, topic) DO UPDATE SET seq = max(seq, excluded.seq)`,
		&l.setMeta:   "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
		&l.dropMeta:  "DELETE FROM meta WHERE key = ?",
		&l.addLife:   "INSERT INTO lives (name) VALUES (?) ON CONFLICT DO NOTHING",
		&l.lifeNo:    "SELECT no FROM lives WHERE name = ?",
		&l.dropLives: "DELETE FROM lives",
	})
}

// Load implements bridge.Archive: all of it in one transaction.
func (a *Archive) Load(ctx context.Context, entries []bridge.Entry) error {
	if err := a.usable(ctx); err != nil {
		return err
	}
	err := a.change(func() error {
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := a.load(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load into %s: %w", a.path, err)
	}
	return nil
}

func (a *Archive) load(e bridge.Entry) error {
	switch {
	case e.Life != nil:
		return with(a.addLife).text(e.Life.Name).exec()
	case e.Event != nil:
		return a.loadEvent(e.Event)
	case e.Mailbox != nil:
		return a.loadMailbox(e.Mailbox)
	case e.Message != nil:
		return a.loadMessage(e.Message)
	case e.Membership != nil:
		return a.loadMembership(e.Membership)
	case e.Revocation != nil:
		v := e.Revocation
		var before int64
		if v.TokenID == "" {
			before = nanos(v.IssuedBefore)
		}
		return with(a.sql.addRevocation).text(v.User).text(v.TokenID).int(before).exec()
	case e.DeliveryLog != nil:
		return a.loadDeliveryLog(e.DeliveryLog)
	case e.Seen != nil:
		s := e.Seen
		return with(a.sql.addSeen).text(s.ID).text(s.User).text(s.Session).int(s.At).exec()
	case e.Callback != nil:
		return a.loadCallback(e.Callback)
	case e.Taken != nil:
		return a.loadTaken(e.Taken)
	case e.Timer != nil:
		return a.loadTimer(e.Timer)
	}
	return e.Check() // says of how many kinds it is
}

// loadEvent writes an event's row as that of one whose message is gone. loadMessage
// makes it one that has its message, under the same number, so that messages stand in
// the order in which events came.
func (a *Archive) loadEvent(e *bridge.EventEntry) error {
	a.buf = a.buf[:0]
	for _, p := range e.Places {
		a.buf = appendPlace(a.buf, place{user: p.User, seq: p.Seq})
	}
	targets := a.buf
	if targets == nil {
		targets = []byte{}
	}
	born := e.Until - int64(a.opts.IDRetention)
	err := with(a.addEvent).int(archived(a.nextNo)).text(e.ID).blob(e.Digest).int(born).int(e.Expires).blob(targets).
		text(e.From).blob(appendNames(nil, e.Except)).text(e.Type).int(e.At).int(e.Recalled).exec()
	if err == nil && a.conn.Changes() > 0 {
		a.nextNo++
	}
	return err
}

func (a *Archive) loadMailbox(m *bridge.MailboxEntry) error {
	if len(m.Hash) > 0 {
		return with(a.sql.markErased).blob(m.Hash).seq(m.Head).exec()
	}
	rec := &record{user: m.User, head: m.Head, trimmed: m.Trimmed, seen: m.Seen, first: m.First,
		acked: m.Acked, explicit: len(m.Removed) > 0, expired: m.Expired, lastSeen: m.LastSeen}
	for _, s := range m.Lives {
		err := with(a.lifeNo).text(s.Life).each(func(r *sqlite3.Stmt) bool {
			rec.lives = append(rec.lives, lifeStart{r.ColumnInt64(0), s.After})
			return false
		})
		if err != nil {
			return err
		}
	}
	return a.sql.save(rec)
}

// loadMessage puts a message into its mailbox; the first one of an event brings
// the payload.
func (a *Archive) loadMessage(m *bridge.MessageEntry) error {
	var no int64 // never of a row
	err := with(a.findEvent).text(m.ID).each(func(r *sqlite3.Stmt) bool {
		no = r.ColumnInt64(0)
		return false
	})
	if err != nil {
		return err
	}
	if no == 0 {
		return fmt.Errorf("%w: it has no event for the message %q", bridge.ErrBadEntry, m.ID)
	}
	if no < 0 {
		gone := no
		no = arrived(gone)
		event := m.Event
		if event == nil {
			event = []byte{}
		}
		if err := with(a.revive).int(no).blob(event).orNull(m.Topic).int(gone).exec(); err != nil {
			return err
		}
	}
	if err := with(a.placeMail).text(m.User).seq(m.Seq).int(no).int(m.Expires).int(int64(len(m.Event))).exec(); err != nil || m.Topic == "" {
		return err
	}
	return with(a.newerTopic).text(m.User).text(m.Topic).seq(m.Seq).exec()
}

func (a *Archive) loadMembership(m *bridge.MembershipEntry) error {
	if m.Stored {
		if err := with(a.sql.addMember).text(m.Group).text(m.User).exec(); err != nil {
			return err
		}
	}
	if m.Until == 0 {
		return nil
	}
	return with(a.sql.addToken).text(m.Group).text(m.User).text(m.Token).text(m.TokenID).int(m.Issued).int(m.Until).exec()
}

func (a *Archive) loadDeliveryLog(t *bridge.DeliveryLog) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("keep a delivery log: %w", err)
	}
	user := t.Member.User
	if err := with(a.sql.addDeliveryLog).text(user).int(nanos(t.Ended)).text(t.Member.Session).blob(data).exec(); err != nil {
		return err
	}
	return with(a.sql.keepDeliveryLogs).text(user).int(bridge.MaxDeliveryLogs).exec()
}
