package sqlite

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// dumpEvents is how many events are read at a time; each may list all the
// members of a group.
const dumpEvents = 64

// dumping is an Archive's statements for what Dump reads. All but the events are
// read row by row, and so need no memory.
type dumping struct {
	beginRead, livesAfter           *sqlite3.Stmt
	events, erasedAfter, nextUser   *sqlite3.Stmt
	letters, membersAfter           *sqlite3.Stmt
	tokensAfter                     *sqlite3.Stmt
	revokedAfter, trailsAfter, seen *sqlite3.Stmt
}

func (d *dumping) prepare(c *sqlite3.Conn) error {
	// Events are in two stretches of log (see archived), each in the order of
	// arrival; a page of both holds the next page of all.
	const stretch = `SELECT * FROM (SELECT no - %d AS arrival, id, digest, born, expires, recalled, sender, type, at, barred, targets,
		event IS NOT NULL AS payload FROM log WHERE no > ?1 + %[1]d AND no %s 0 ORDER BY no LIMIT ?2)`
	return prepareAll(c, map[**sqlite3.Stmt]string{
		&d.beginRead:  "BEGIN",
		&d.livesAfter: "SELECT no, name FROM lives WHERE no > ? ORDER BY no",
		&d.events: fmt.Sprintf(stretch, archived(0), "<") + " UNION ALL " + fmt.Sprintf(stretch, 0, ">=") +
			" ORDER BY arrival LIMIT ?2",
		&d.erasedAfter: "SELECT name, head FROM erased WHERE name > ? ORDER BY name",
		&d.nextUser: `SELECT user FROM (SELECT user FROM users WHERE user > ?1 ORDER BY user LIMIT 1) UNION
			SELECT user FROM (SELECT user FROM mail WHERE user > ?1 ORDER BY user LIMIT 1) ORDER BY user LIMIT 1`,
		&d.letters: `SELECT mail.seq, mail.expires, log.id, ifnull(log.topic, ''), log.event
			FROM mail CROSS JOIN log ON log.no = mail.no
			WHERE mail.user = ? AND mail.seq > ? AND mail.expires > ? ORDER BY mail.seq`,
		&d.membersAfter: "SELECT grp, user FROM members WHERE (grp, user) > (?, ?) AND stored = 1 ORDER BY grp, user",
		&d.tokensAfter: `SELECT grp, user, token, token_id, issued, until FROM token_members
			WHERE (grp, user, token) > (?, ?, ?) AND until > ? ORDER BY grp, user, token`,
		&d.revokedAfter: `SELECT user, token_id, issued_before FROM revocations
			WHERE (user, token_id) > (?, ?) ORDER BY user, token_id`,
		&d.trailsAfter: `SELECT user, ended, session, trail FROM trails
			WHERE (user, ended, session) > (?, ?, ?) AND ended >= ? ORDER BY user, ended, session`,
		&d.seen: `SELECT sights.id, sights.user, sights.session, sights.at, log.born, log.expires, log.event IS NOT NULL
			FROM sights CROSS JOIN log ON log.id = sights.id
			WHERE (sights.id, sights.user, sights.session) > (?, ?, ?) ORDER BY sights.id, sights.user, sights.session`,
	})
}

// Count implements bridge.Archive. Rows that have expired count, too.
func (a *Archive) Count(ctx context.Context) (int64, error) {
	if err := a.usable(ctx); err != nil {
		return 0, err
	}
	n, err := queryInt(a.conn, `SELECT (SELECT count(*) FROM log) + (SELECT count(*) FROM erased) + (SELECT count(*) FROM users)
		+ (SELECT count(*) FROM mail) + (SELECT count(*) FROM members) + (SELECT count(*) FROM token_members) + (SELECT count(*) FROM revocations)
		+ (SELECT count(*) FROM trails) + (SELECT count(*) FROM sights)`)
	if err != nil {
		return 0, fmt.Errorf("count what is in %s: %w", a.path, err)
	}
	return n, nil
}

// dump is one run of Dump.
type dump struct {
	*Archive
	ctx  context.Context
	now  int64
	take func(e bridge.Entry, place string) error
	name string // of the part that is going on
}

// parts are what Dump goes through. A place is a JSON array: a part's name, and
// the key in it of what was given last. Where users have no names any more their
// mailboxes come first, so that what is known of a user who came back has the
// last word.
var parts = []struct {
	name string
	keys int
	run  func(d *dump, after []string) error
}{
	{"life", 1, (*dump).dumpLives},
	{"event", 1, (*dump).dumpEvents},
	{"hash", 1, (*dump).dumpErased},
	{"mail", 2, (*dump).dumpMailboxes},
	{"member", 2, (*dump).dumpMembers},
	{"token", 3, (*dump).dumpTokens},
	{"revoked", 2, (*dump).dumpRevoked},
	{"trail", 3, (*dump).dumpTrails},
	{"sight", 3, (*dump).dumpSights},
}

// Dump implements bridge.Archive: one read of the file as it is now.
func (a *Archive) Dump(ctx context.Context, after string, take func(e bridge.Entry, place string) error) error {
	if err := a.usable(ctx); err != nil {
		return err
	}
	if a.begun {
		return fmt.Errorf("%s: %w", a.path, bridge.ErrUnfinished)
	}
	first, keys, err := parsePlace(after)
	if err != nil {
		return err
	}
	if err := a.beginRead.Exec(); err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	if a.lives, err = loadLives(a.conn); err != nil {
		return firstOf(fmt.Errorf("read %s: %w", a.path, err), a.store.commit.Exec())
	}
	d := &dump{Archive: a, ctx: ctx, now: a.opts.Now().UnixNano(), take: take}
	for _, part := range parts[first:] {
		d.name = part.name
		if keys == nil {
			keys = make([]string, part.keys)
		}
		if err = part.run(d, keys); err != nil {
			break
		}
		keys = nil
	}
	return firstOf(err, a.store.commit.Exec())
}

// parsePlace finds the part of a place, and the key in it; none for the start.
func parsePlace(place string) (part int, keys []string, err error) {
	if place == "" {
		return 0, nil, nil
	}
	if err := json.Unmarshal([]byte(place), &keys); err == nil && len(keys) > 0 {
		for i, p := range parts {
			if p.name == keys[0] && p.keys == len(keys)-1 {
				return i, keys[1:], nil
			}
		}
	}
	return 0, nil, fmt.Errorf("sqlite: %q is no place in a store", place)
}

// number64 reads a number in a place; none is 0.
func number64(key string) (int64, error) {
	if key == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("sqlite: a place in a store: %w", err)
	}
	return n, nil
}

// give passes an entry on, with the place behind it.
func (d *dump) give(e bridge.Entry, key ...string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	place, err := json.Marshal(append([]string{d.name}, key...))
	if err != nil {
		return err
	}
	return d.take(e, string(place))
}

// rows calls f for each row of an answer, up to its first error.
func (d *dump) rows(a args, f func(r *sqlite3.Stmt) error) error {
	var ferr error
	err := a.each(func(r *sqlite3.Stmt) bool {
		ferr = f(r)
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

func (d *dump) dumpLives(after []string) error {
	no, err := number64(after[0])
	if err != nil {
		return err
	}
	return d.rows(with(d.livesAfter).int(no), func(r *sqlite3.Stmt) error {
		return d.give(bridge.Entry{Life: &bridge.LifeEntry{Name: r.ColumnText(1)}}, strconv.FormatInt(r.ColumnInt64(0), 10))
	})
}

func (d *dump) dumpEvents(after []string) error {
	arrival, err := number64(after[0])
	if err != nil {
		return err
	}
	for {
		events := make([]bridge.EventEntry, 0, dumpEvents)
		arrivals := make([]int64, 0, dumpEvents)
		err := d.rows(with(d.events).int(arrival).int(dumpEvents), func(r *sqlite3.Stmt) error {
			e, err := d.event(r)
			events, arrivals = append(events, e), append(arrivals, r.ColumnInt64(0))
			return err
		})
		if err != nil {
			return err
		}
		for i := range events {
			if events[i].Until <= d.now {
				continue
			}
			if err := d.give(bridge.Entry{Event: &events[i]}, strconv.FormatInt(arrivals[i], 10)); err != nil {
				return err
			}
		}
		if len(events) < dumpEvents {
			return nil
		}
		arrival = arrivals[len(arrivals)-1]
	}
}

func (d *dump) event(r *sqlite3.Stmt) (e bridge.EventEntry, err error) {
	e = bridge.EventEntry{ID: r.ColumnText(1), Digest: r.ColumnBlob(2, nil), Expires: r.ColumnInt64(4), Recalled: r.ColumnInt64(5),
		From: r.ColumnText(6), Type: r.ColumnText(7), At: r.ColumnInt64(8),
		Until: d.until(r.ColumnInt64(3), r.ColumnInt64(4), r.ColumnBool(11))}
	if e.Except, err = parseNames(r.ColumnRawBlob(9)); err != nil {
		return e, err
	}
	places, err := parsePlaces(r.ColumnRawBlob(10))
	for _, p := range places {
		e.Places = append(e.Places, bridge.PlaceEntry{User: p.user, Seq: p.seq})
	}
	return e, err
}

func (d *dump) dumpErased(after []string) error {
	hash, err := hex.DecodeString(after[0])
	if err != nil {
		return fmt.Errorf("sqlite: a place in a store: %w", err)
	}
	return d.rows(with(d.erasedAfter).blob(hash), func(r *sqlite3.Stmt) error {
		m := &bridge.MailboxEntry{Hash: r.ColumnBlob(0, nil), Head: uint64(r.ColumnInt64(1))}
		return d.give(bridge.Entry{Mailbox: m}, hex.EncodeToString(m.Hash))
	})
}

// dumpMailboxes goes from user to user, first of whom is nobody: the log of
// messages to all. Within a mailbox it goes on with the MailboxEntry again:
// since that was given, more may have expired.
func (d *dump) dumpMailboxes(after []string) error {
	user := after[0]
	seq, err := number64(after[1])
	if err != nil {
		return err
	}
	for more := true; more; seq = 0 {
		if err := d.mailbox(user, uint64(seq)); err != nil {
			return err
		}
		more = false
		err := d.rows(with(d.nextUser).text(user), func(r *sqlite3.Stmt) error {
			user, more = r.ColumnText(0), true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *dump) mailbox(user string, after uint64) error {
	rec, err := d.store.user(user)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	m := &bridge.MailboxEntry{User: user, Head: rec.head, Trimmed: rec.trimmed,
		Seen: rec.seen, First: rec.first, Acked: rec.acked, LastSeen: rec.lastSeen}
	if user == "" && rec.head == 0 {
		return nil
	}
	for _, s := range rec.lives {
		// For lives that the store has forgotten stands the oldest that it has not:
		// what was given out before the first of them ended there.
		name := d.lives.names[max(s.no, d.lives.oldest)]
		if n := len(m.Lives); name != "" && (n == 0 || m.Lives[n-1].Life != name) {
			m.Lives = append(m.Lives, bridge.LifeStart{Life: name, After: s.after})
		}
	}
	if m.Expired, m.Holes, err = d.gone(rec); err != nil {
		return err
	}
	if err := d.give(bridge.Entry{Mailbox: m}, user, "0"); err != nil {
		return err
	}
	return d.rows(with(d.letters).text(user).seq(after).int(d.now), func(r *sqlite3.Stmt) error {
		l := &bridge.MessageEntry{User: user, Seq: uint64(r.ColumnInt64(0)), Expires: r.ColumnInt64(1),
			ID: r.ColumnText(2), Topic: r.ColumnText(3), Event: r.ColumnBlob(4, []byte{})}
		return d.give(bridge.Entry{Message: l}, user, strconv.FormatUint(l.Seq, 10))
	})
}

// gone tells of the places in a mailbox that are empty, or as good as that,
// beyond what was trimmed: the furthest that expired, and behind it those that
// were taken out on purpose (see holes.go). It looks from the head down, no
// further than to that place.
func (d *dump) gone(rec *record) (expired uint64, holes [][2]uint64, err error) {
	if rec.explicit {
		expired = rec.expired
	}
	next := rec.head // the place that is expected to be there
	missing := func(first uint64) {
		first = max(first, expired+1, rec.trimmed+1)
		switch {
		case first > next:
		case rec.explicit:
			holes = append(holes, [2]uint64{first, next})
		default:
			expired = next
		}
	}
	err = with(d.store.downwards).text(rec.user).seq(rec.trimmed).each(func(r *sqlite3.Stmt) bool {
		seq := uint64(r.ColumnInt64(0))
		missing(seq + 1)
		if seq > expired && r.ColumnInt64(1) <= d.now {
			expired = seq
		}
		next = seq - 1
		return expired < next
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", d.path, err)
	}
	missing(0)
	slices.Reverse(holes)
	return expired, holes, nil
}

func (d *dump) dumpMembers(after []string) error {
	return d.rows(with(d.membersAfter).text(after[0]).text(after[1]), func(r *sqlite3.Stmt) error {
		m := &bridge.MembershipEntry{Group: r.ColumnText(0), User: r.ColumnText(1), Stored: true}
		return d.give(bridge.Entry{Membership: m}, m.Group, m.User)
	})
}

func (d *dump) dumpTokens(after []string) error {
	return d.rows(with(d.tokensAfter).text(after[0]).text(after[1]).text(after[2]).int(d.now), func(r *sqlite3.Stmt) error {
		m := &bridge.MembershipEntry{Group: r.ColumnText(0), User: r.ColumnText(1),
			Token: r.ColumnText(2), TokenID: r.ColumnText(3), Issued: r.ColumnInt64(4), Until: r.ColumnInt64(5)}
		return d.give(bridge.Entry{Membership: m}, m.Group, m.User, m.Token)
	})
}

func (d *dump) dumpRevoked(after []string) error {
	return d.rows(with(d.revokedAfter).text(after[0]).text(after[1]), func(r *sqlite3.Stmt) error {
		v := &bridge.RevocationEntry{User: r.ColumnText(0), Revocation: bridge.Revocation{TokenID: r.ColumnText(1)}}
		if v.TokenID == "" {
			v.IssuedBefore = instant(r.ColumnInt64(2))
		}
		return d.give(bridge.Entry{Revocation: v}, v.User, v.TokenID)
	})
}

func (d *dump) dumpTrails(after []string) error {
	ended, err := number64(after[1])
	if err != nil {
		return err
	}
	old := d.now - int64(d.opts.IDRetention)
	return d.rows(with(d.trailsAfter).text(after[0]).int(ended).text(after[2]).int(old), func(r *sqlite3.Stmt) error {
		t := new(bridge.DeliveryLog)
		if err := json.Unmarshal(r.ColumnRawBlob(3), t); err != nil {
			return fmt.Errorf("read a trail of %s: %w", d.path, err)
		}
		return d.give(bridge.Entry{Trail: t}, r.ColumnText(0), strconv.FormatInt(r.ColumnInt64(1), 10), r.ColumnText(2))
	})
}

func (d *dump) dumpSights(after []string) error {
	return d.rows(with(d.seen).text(after[0]).text(after[1]).text(after[2]), func(r *sqlite3.Stmt) error {
		if d.until(r.ColumnInt64(4), r.ColumnInt64(5), r.ColumnBool(6)) <= d.now {
			return nil
		}
		s := &bridge.SightEntry{ID: r.ColumnText(0), User: r.ColumnText(1), Session: r.ColumnText(2), At: r.ColumnInt64(3)}
		return d.give(bridge.Entry{Sight: s}, s.ID, s.User, s.Session)
	})
}
