package sqlite

import (
	"fmt"
	"math"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// statements are the writing connection and what is prepared on it. One goroutine
// uses them: the writer's, or that of an Archive.
type statements struct {
	conn *sqlite3.Conn

	begin, commit, rollback    *sqlite3.Stmt
	insertLog, insertMail      *sqlite3.Stmt
	findID, logRow, logBrief   *sqlite3.Stmt
	getUser, newest, saveUser  *sqlite3.Stmt
	countLive, oldestLive      *sqlite3.Stmt
	deleteMail, archive        *sqlite3.Stmt
	deleteLog, expired, oldIDs *sqlite3.Stmt
	probe, setFilled           *sqlite3.Stmt

	downwards, mailRowOf           *sqlite3.Stmt
	topicOf, setTopic, deleteTopic *sqlite3.Stmt
	erasedHead                     *sqlite3.Stmt

	// Groups, delivery logs, what was seen, revocations and the erasing of users.
	groupMembers, countStored, countMember           *sqlite3.Stmt
	addMember, dropMember                            *sqlite3.Stmt
	tokenMembers, addToken, dropToken                *sqlite3.Stmt
	dropTokens, oldToken, oldTokens                  *sqlite3.Stmt
	revokeToken, revokeBefore                        *sqlite3.Stmt
	addDeliveryLog, keepDeliveryLogs, oldDeliveryLog *sqlite3.Stmt
	dropDeliveryLogs                                 *sqlite3.Stmt
	addSeen, forgetSeen, dropSeen                    *sqlite3.Stmt
	addRevocation                                    *sqlite3.Stmt
	eventRow, recall                                 *sqlite3.Stmt
	mailOf, setTargets, markErased                   *sqlite3.Stmt
	naming, unsign                                   *sqlite3.Stmt
	eraseAll                                         []*sqlite3.Stmt

	outboxStatements
}

func newStatements(c *sqlite3.Conn) (*statements, error) {
	s := &statements{conn: c}
	err := prepareAll(c, map[**sqlite3.Stmt]string{
		&s.begin:    "BEGIN IMMEDIATE",
		&s.commit:   "COMMIT",
		&s.rollback: "ROLLBACK",
		&s.insertLog: `INSERT INTO log (no, id, digest, born, expires, targets, sender, barred, event, type, at, topic)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		&s.insertMail: "INSERT INTO mail (user, seq, no, expires, size, deposited) VALUES (?, ?, ?, ?, ?, ?)",
		&s.findID:     "SELECT digest, expires, targets FROM log WHERE id = ?",
		&s.logRow:     "SELECT no, born, targets, ifnull(topic, ''), event IS NOT NULL FROM log WHERE no = ?",
		&s.logBrief:   "SELECT born, ifnull(topic, ''), substr(targets, 1, 600), length(targets) FROM log WHERE no = ?",
		&s.getUser: `SELECT head, trimmed, seen, first, acked_mail, acked_all, explicit, expired, last_seen, lives, trimmed_bytes
			FROM users WHERE user = ?`,
		&s.newest: "SELECT seq, deposited FROM mail WHERE user = ? ORDER BY seq DESC LIMIT 1",
		&s.saveUser: `INSERT INTO users (user, head, trimmed, seen, first, acked_mail, acked_all, explicit, expired, last_seen, lives, trimmed_bytes)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user) DO UPDATE SET head = excluded.head,
			trimmed = excluded.trimmed, seen = excluded.seen, first = excluded.first,
			acked_mail = excluded.acked_mail, acked_all = excluded.acked_all, explicit = excluded.explicit,
			expired = excluded.expired, last_seen = excluded.last_seen, lives = excluded.lives,
			trimmed_bytes = excluded.trimmed_bytes`,
		&s.countLive: "SELECT count(*), min(expires), sum(size) FROM mail WHERE user = ? AND expires > ?",
		&s.oldestLive: `SELECT seq, no, size, deposited FROM mail WHERE user = ? AND seq > ? AND expires > ?
			ORDER BY seq LIMIT 1`,
		&s.deleteMail: "DELETE FROM mail WHERE user = ? AND seq = ?",
		&s.archive:    "UPDATE log SET no = ?, event = NULL, topic = NULL WHERE no = ?",
		&s.deleteLog:  "DELETE FROM log WHERE no = ?",
		&s.expired: `SELECT no, born, targets, ifnull(topic, ''), length(event) FROM log WHERE event IS NOT NULL AND expires <= ?
			ORDER BY expires LIMIT ?`,
		&s.oldIDs: "SELECT no, born FROM log WHERE no < 0 ORDER BY no LIMIT ?",
		&s.probe: `INSERT INTO meta (key, value) VALUES ('probe', ?)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		&s.setFilled: "UPDATE meta SET value = ? WHERE key = 'journal'",
		&s.downwards: "SELECT seq, expires FROM mail WHERE user = ? AND seq > ? ORDER BY seq DESC",
		&s.mailRowOf: "SELECT no, expires, size FROM mail WHERE user = ? AND seq = ?",
		&s.topicOf:   "SELECT seq FROM topics WHERE user = ? AND topic = ?",
		&s.setTopic: `INSERT INTO topics (user, topic, seq) VALUES (?, ?, ?)
			ON CONFLICT (user, topic) DO UPDATE SET seq = excluded.seq`,
		&s.deleteTopic: "DELETE FROM topics WHERE user = ? AND topic = ? AND seq = ?",
		&s.erasedHead:  "SELECT head FROM erased WHERE name = ?",

		&s.groupMembers: `SELECT user FROM members WHERE grp = ?1 AND stored = 1
			UNION SELECT user FROM token_members WHERE grp = ?1 AND until > ?2 ORDER BY user LIMIT ?3`,
		&s.countStored:  "SELECT count(*) FROM members WHERE grp = ? AND stored = 1",
		&s.countMember:  "SELECT count(*) FROM members WHERE grp = ? AND user = ? AND stored = 1",
		&s.tokenMembers: "SELECT grp, token, until FROM token_members WHERE user = ?",
		&s.addToken: `INSERT INTO token_members (grp, user, token, token_id, issued, until) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (grp, user, token) DO UPDATE SET until = max(until, excluded.until)`,
		&s.dropToken:  "DELETE FROM token_members WHERE grp = ? AND user = ? AND token = ?",
		&s.dropTokens: "DELETE FROM token_members WHERE grp = ? AND user = ?",
		&s.oldToken:   "SELECT 1 FROM token_members WHERE until <= ? LIMIT 1",
		&s.oldTokens: `DELETE FROM token_members WHERE (grp, user, token) IN
			(SELECT grp, user, token FROM token_members WHERE until <= ? ORDER BY until LIMIT ?)`,
		&s.revokeToken:  "DELETE FROM token_members WHERE user = ? AND (token_id = ? OR token = '' AND token_id = '')",
		&s.revokeBefore: "DELETE FROM token_members WHERE user = ? AND issued < ?",
		&s.addMember: `INSERT INTO members (grp, user, stored, until) VALUES (?, ?, 1, 0)
			ON CONFLICT (grp, user) DO UPDATE SET stored = 1`,
		&s.dropMember:     "DELETE FROM members WHERE grp = ? AND user = ?",
		&s.addDeliveryLog: "INSERT INTO trails (user, ended, session, trail) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		&s.keepDeliveryLogs: `DELETE FROM trails WHERE user = ?1 AND (ended, session) NOT IN
			(SELECT ended, session FROM trails WHERE user = ?1 ORDER BY ended DESC, session DESC LIMIT ?2)`,
		&s.oldDeliveryLog: "SELECT 1 FROM trails WHERE ended < ? LIMIT 1",
		&s.dropDeliveryLogs: `DELETE FROM trails WHERE (user, ended, session) IN
			(SELECT user, ended, session FROM trails WHERE ended < ? LIMIT ?)`,
		&s.addSeen:    "INSERT INTO sights (id, user, session, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		&s.dropSeen:   "DELETE FROM sights WHERE user = ?",
		&s.forgetSeen: "DELETE FROM sights WHERE id IN (SELECT id FROM log WHERE no <= ?)",
		&s.addRevocation: `INSERT INTO revocations (user, token_id, issued_before) VALUES (?, ?, ?)
			ON CONFLICT (user, token_id) DO UPDATE SET issued_before = max(issued_before, excluded.issued_before)`,
		&s.eventRow: "SELECT no, born, targets, ifnull(topic, ''), event IS NOT NULL, recalled FROM log WHERE id = ?",
		&s.recall:   "UPDATE log SET recalled = ? WHERE no = ? AND recalled = 0",
		&s.mailOf: `SELECT mail.seq, mail.no, ifnull(length(log.event), 0) FROM mail CROSS JOIN log ON log.no = mail.no
			WHERE mail.user = ? AND mail.seq > ? ORDER BY mail.seq LIMIT ?`,
		&s.setTargets: "UPDATE log SET targets = ? WHERE no = ?",
		&s.markErased: "INSERT INTO erased (name, head) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET head = max(head, excluded.head)",
		&s.naming: `SELECT no, born, targets, ifnull(topic, ''), event IS NOT NULL, instr(targets, ?), sender = ?
			FROM log WHERE no > ? ORDER BY no LIMIT ?`,
		&s.unsign: "UPDATE log SET sender = '' WHERE no IN (?, ?) AND event IS NULL",
	})
	if err != nil {
		return nil, err
	}
	if err := s.outboxStatements.prepare(c); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"DELETE FROM topics WHERE user = ?", "DELETE FROM members WHERE user = ?", "DELETE FROM token_members WHERE user = ?",
		"DELETE FROM trails WHERE user = ?", "DELETE FROM sights WHERE user = ?", "DELETE FROM timers WHERE user = ?",
		"DELETE FROM users WHERE user = ?",
	} {
		var erase *sqlite3.Stmt
		if err := prepareAll(c, map[**sqlite3.Stmt]string{&erase: sql}); err != nil {
			return nil, err
		}
		s.eraseAll = append(s.eraseAll, erase)
	}
	return s, nil
}

// addMessage writes the message's row and reports false, with nothing written,
// when its id is known already.
func (s *statements) addMessage(no int64, m *bridge.Message, born int64, targets []byte) (bool, error) {
	var expires int64
	var event, except []byte
	if !m.Stored() {
		no = archived(no)
	} else {
		expires = nanos(m.Expires)
		if event = m.Event; event == nil {
			event = []byte{}
		}
		if len(m.Except) > 0 {
			except = appendNames(nil, m.Except)
		}
	}
	err := with(s.insertLog).int(no).text(m.ID).blob(m.Digest[:]).int(born).int(expires).
		blob(targets).text(m.From).blob(except).blob(event).text(m.Type).int(nanos(m.At)).orNull(m.Topic).exec()
	return err == nil && s.conn.Changes() > 0, err
}

// nanos is a time as it stands in the file, in Unix nanoseconds; the largest number
// for a time beyond that.
func nanos(t time.Time) int64 {
	if t.Unix() > math.MaxInt64/int64(time.Second)-1 {
		return math.MaxInt64
	}
	return t.UnixNano()
}

// known is what is remembered of an id.
type known struct {
	digest  []byte
	expires int64 // Unix nanoseconds; 0 if never stored
	places  []place
}

func (s *statements) find(id string) (known, error) {
	var k known
	var perr error
	err := with(s.findID).text(id).each(func(r *sqlite3.Stmt) bool {
		k.digest = r.ColumnBlob(0, nil)
		k.expires = r.ColumnInt64(1)
		k.places, perr = parsePlaces(r.ColumnRawBlob(2))
		return false
	})
	if err == nil {
		err = perr
	}
	return k, err
}

// row is a message's row in log, without its payload.
func (s *statements) row(no int64) (logged, error) {
	var l logged
	var perr error
	err := with(s.logRow).int(no).each(func(r *sqlite3.Stmt) bool {
		l, perr = readLogged(r)
		return false
	})
	return l, firstOf(err, perr)
}

// readLogged reads no, born, targets, topic and whether there is a payload.
func readLogged(r *sqlite3.Stmt) (l logged, err error) {
	l = logged{no: r.ColumnInt64(0), born: r.ColumnInt64(1), topic: r.ColumnText(3), payload: r.ColumnBool(4)}
	l.places, err = parsePlaces(r.ColumnRawBlob(2))
	return l, err
}

// topic is the place of a topic's newest message; 0 where there is none.
func (s *statements) topic(user, topic string) (seq uint64, err error) {
	err = with(s.topicOf).text(user).text(topic).each(func(r *sqlite3.Stmt) bool {
		seq = uint64(r.ColumnInt64(0))
		return false
	})
	return seq, err
}

// letter is a row of mail: the number of the message, when it expires, and how many
// bytes its payload has.
type letter struct{ no, expires, size int64 }

// mailRow reads the row of a place; its no is 0 where there is none.
func (s *statements) mailRow(user string, seq uint64) (l letter, err error) {
	err = with(s.mailRowOf).text(user).seq(seq).each(func(r *sqlite3.Stmt) bool {
		l = letter{r.ColumnInt64(0), r.ColumnInt64(1), r.ColumnInt64(2)}
		return false
	})
	return l, err
}

// brief is what has to be known of a message that is taken out of a mailbox. To read
// it costs the same for one recipient and for a thousand.
type brief struct {
	born    int64
	topic   string
	several bool // it was for more than one mailbox
}

func (s *statements) brief(no int64) (b brief, err error) {
	var perr error
	err = with(s.logBrief).int(no).each(func(r *sqlite3.Stmt) bool {
		b.born, b.topic = r.ColumnInt64(0), r.ColumnText(1)
		var first int
		first, perr = placeLength(r.ColumnRawBlob(2))
		b.several = int64(first) < r.ColumnInt64(3)
		return false
	})
	return b, firstOf(err, perr)
}

// user loads a record; one that has no row yet stands at zero, or where it stood
// when its user was erased.
func (s *statements) user(name string) (*record, error) {
	rec := &record{user: name, held: unknown}
	known := false
	var perr error
	err := with(s.getUser).text(name).each(func(r *sqlite3.Stmt) bool {
		rec.head = uint64(r.ColumnInt64(0))
		rec.kept = rec.head
		rec.trimmed = uint64(r.ColumnInt64(1))
		rec.seen = r.ColumnBool(2)
		rec.first = uint64(r.ColumnInt64(3))
		rec.acked.Mailbox = uint64(r.ColumnInt64(4))
		rec.acked.Broadcast = uint64(r.ColumnInt64(5))
		rec.explicit = r.ColumnBool(6)
		rec.expired = uint64(r.ColumnInt64(7))
		rec.lastSeen = r.ColumnInt64(8)
		rec.lives, perr = parseLifeStarts(r.ColumnRawBlob(9))
		rec.trimmedBytes = r.ColumnInt64(10)
		known = true
		return false
	})
	if err = firstOf(err, perr); err != nil {
		return nil, err
	}
	if !known {
		err := with(s.erasedHead).blob(bridge.MailboxHash(name)).each(func(r *sqlite3.Stmt) bool {
			rec.head = uint64(r.ColumnInt64(0))
			rec.kept, rec.trimmed, rec.acked.Mailbox = 0, rec.head, rec.head
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	rec.deposited = rec.trimmedBytes
	return rec, with(s.newest).text(name).each(func(r *sqlite3.Stmt) bool {
		rec.head = max(rec.head, uint64(r.ColumnInt64(0)))
		rec.deposited = max(rec.deposited, r.ColumnInt64(1))
		return false
	})
}

func (s *statements) save(rec *record) error {
	err := with(s.saveUser).text(rec.user).seq(rec.head).seq(rec.trimmed).bool(rec.seen).seq(rec.first).
		seq(rec.acked.Mailbox).seq(rec.acked.Broadcast).bool(rec.explicit).seq(rec.expired).int(rec.lastSeen).blob(packLifeStarts(rec.lives)).
		int(rec.trimmedBytes).exec()
	if err == nil {
		rec.kept = rec.head
	}
	return err
}

// archived is where the memory of an id stands once its message is gone: below
// zero, in the order of arrival. SQLite does not merge pages whose rows shrink,
// so a row that only lost its payload where it is would keep its page; moved
// together, these rows need a fraction of the room.
func archived(no int64) int64 { return no - 1<<62 }

// arrived is the number that an archived row had before.
func arrived(archived int64) int64 { return archived + 1<<62 }

// nextNo is the number of the next message, beyond all that the file knows.
func (s *statements) nextNo() (int64, error) {
	live, err := queryInt(s.conn, "SELECT max(no) FROM log")
	if err != nil {
		return 0, err
	}
	gone, err := queryInt(s.conn, fmt.Sprintf("SELECT ifnull(max(no), %d) - %d FROM log WHERE no < 0", archived(0), archived(0)))
	return max(live, gone, 0) + 1, err
}

// forget frees a message that no mailbox holds any longer: the payload at once,
// the whole row where its id need not be remembered any more.
func (s *statements) forget(no int64, idToo bool) error {
	if idToo {
		return with(s.deleteLog).int(no).exec()
	}
	return with(s.archive).int(archived(no)).int(no).exec()
}

// instantNanos is a time as it stands in the file, where 0 is none.
func instantNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return nanos(t)
}

// instant is a time as it stands in the file; 0 is none.
func instant(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}
