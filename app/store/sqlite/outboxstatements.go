package sqlite

import "github.com/ncruces/go-sqlite3"

// outboxStatements are those about callbacks and timers.
type outboxStatements struct {
	addCallback, findCallback, dropCallback                              *sqlite3.Stmt
	dueCallbacks, nextCallback                                           *sqlite3.Stmt
	tryLater, layAside, sendAgain, setDue                                *sqlite3.Stmt
	waitsForHurry, hurry                                                 *sqlite3.Stmt
	userLine, oldestOfRank, firstToGo                                    *sqlite3.Stmt
	deadCallbacks, deadRows, oldestDead, deadBefore, callbacksOf, stocks *sqlite3.Stmt
	callbackRows, wholeCallback                                          *sqlite3.Stmt

	addTimer, hasTimer, dropTimer, setTimer *sqlite3.Stmt
	dueTimers, timersOf, timersAcked        *sqlite3.Stmt
	oldEscalations, escalates               *sqlite3.Stmt

	ackedMail *sqlite3.Stmt
}

// stored is what is asked of a callback that is changed or removed: see readStored.
const stored = "no, id, backend, user, rank, dead, length(body)"

func (s *outboxStatements) prepare(c *sqlite3.Conn) error {
	return prepareAll(c, map[**sqlite3.Stmt]string{
		&s.addCallback: `INSERT INTO callbacks (id, backend, type, user, rank, at, due, tries, since, dead, last, body)
			VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0), ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		&s.findCallback: "SELECT " + stored + " FROM callbacks WHERE id = ?",
		&s.dropCallback: "DELETE FROM callbacks WHERE no = ?",
		&s.dueCallbacks: `SELECT id, type, user, at, tries, since, body FROM callbacks
			WHERE backend = ? AND due <= ? ORDER BY due, no`,
		&s.nextCallback:  "SELECT due FROM callbacks WHERE backend = ? AND due > ? ORDER BY due LIMIT 1",
		&s.tryLater:      "UPDATE callbacks SET tries = ?, last = ?, due = nullif(?, 0) WHERE no = ?",
		&s.layAside:      "UPDATE callbacks SET tries = ?, last = ?, due = NULL, dead = ? WHERE no = ?",
		&s.sendAgain:     "UPDATE callbacks SET tries = 0, last = '', dead = 0, since = ?1, due = nullif(?2, 0) WHERE no = ?3",
		&s.setDue:        "UPDATE callbacks SET due = nullif(?, 0) WHERE no = ?",
		&s.waitsForHurry: "SELECT EXISTS (SELECT 1 FROM callbacks WHERE backend = ? AND due > ? AND due & 1)",
		&s.hurry: `UPDATE callbacks SET due = ?1 WHERE no IN
			(SELECT no FROM callbacks WHERE backend = ?2 AND due > ?3 AND due & 1 ORDER BY due LIMIT ?4)`,
		&s.userLine: `SELECT no, due IS NOT NULL FROM callbacks
			WHERE user = ? AND backend = ? AND rank = 2 AND dead = 0 ORDER BY no LIMIT 2`,
		&s.oldestOfRank:  "SELECT at FROM callbacks WHERE backend = ? AND rank = ? AND dead = 0 ORDER BY at, no LIMIT 1",
		&s.firstToGo:     "SELECT " + stored + " FROM callbacks WHERE backend = ? AND rank = ? AND dead = 0 ORDER BY at, no LIMIT 1",
		&s.deadCallbacks: "SELECT id, type, user, dead, tries, last FROM callbacks WHERE backend = ? AND dead > 0 AND id > ? ORDER BY id LIMIT ?",
		&s.deadRows:      "SELECT id, no FROM callbacks WHERE backend = ? AND dead > 0 AND id > ? ORDER BY id LIMIT ?",
		&s.oldestDead:    "SELECT " + stored + " FROM callbacks WHERE backend = ? AND dead > 0 ORDER BY dead, no LIMIT ?",
		&s.deadBefore:    "SELECT " + stored + " FROM callbacks WHERE backend = ? AND dead > 0 AND dead <= ? ORDER BY dead, no LIMIT ?",
		&s.callbacksOf:   "SELECT " + stored + " FROM callbacks WHERE user = ? LIMIT ?",
		&s.callbackRows:  "SELECT no FROM callbacks WHERE user = ? ORDER BY no",
		&s.wholeCallback: "SELECT id, backend, type, user, at, dead, body FROM callbacks WHERE no = ?",
		&s.stocks: `SELECT backend, rank, dead > 0, count(*), sum(length(body)) FROM callbacks
			GROUP BY backend, rank, dead > 0`,

		&s.addTimer: `INSERT INTO timers (user, seq, kind, due, id, event, after) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING`,
		&s.hasTimer:       "SELECT count(*) FROM timers WHERE user = ? AND seq = ? AND kind = ?",
		&s.dropTimer:      "DELETE FROM timers WHERE user = ? AND seq = ? AND kind = ?",
		&s.setTimer:       "UPDATE timers SET due = ? WHERE user = ? AND seq = ? AND kind = ?",
		&s.dueTimers:      "SELECT user, seq, kind, due, id, event, after FROM timers WHERE due <= ? ORDER BY due",
		&s.timersOf:       "DELETE FROM timers WHERE user = ? AND seq = ?",
		&s.oldEscalations: "DELETE FROM timers WHERE user = ? AND seq > 0 AND seq <= ? AND kind = 1",
		// What came to its end before it was acked has expired, and escalates.
		&s.timersAcked: `DELETE FROM timers WHERE user = ?1 AND seq > 0 AND seq <= ?2 AND (due > ?3 OR kind = 1
			AND EXISTS (SELECT 1 FROM mail WHERE mail.user = ?1 AND mail.seq = timers.seq AND mail.expires > ?3))`,
		&s.escalates: "SELECT 1 FROM timers WHERE user = ? AND seq > 0 AND seq <= ? AND kind = 1 LIMIT 1",

		&s.ackedMail: `SELECT mail.seq, log.id, log.type FROM mail CROSS JOIN log ON log.no = mail.no
			WHERE mail.user = ? AND mail.seq > ? AND mail.seq <= ? AND mail.expires > ? ORDER BY mail.seq LIMIT ?`,
	})
}

// storedCallback is a row as readStored has read it.
type storedCallback struct {
	no                int64
	id, backend, user string
	rank              int
	dead              bool
	size              int64
}

func readStored(r *sqlite3.Stmt) storedCallback {
	return storedCallback{r.ColumnInt64(0), r.ColumnText(1), r.ColumnText(2), r.ColumnText(3), r.ColumnInt(4), r.ColumnInt64(5) != 0, r.ColumnInt64(6)}
}

// storedCallbacks reads all rows of an answer.
func (a args) storedCallbacks() (all []storedCallback, err error) {
	err = a.each(func(r *sqlite3.Stmt) bool {
		all = append(all, readStored(r))
		return true
	})
	return all, err
}
