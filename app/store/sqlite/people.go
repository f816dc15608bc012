package sqlite

import (
	"slices"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// people are the writer's statements about groups, trails, sights, revocations
// and the erasing of users.
type people struct {
	groupMembers, countStored, countMember *sqlite3.Stmt
	addMember, dropMember                  *sqlite3.Stmt
	tokenMembers, addToken, dropToken      *sqlite3.Stmt
	dropTokens, oldToken, oldTokens        *sqlite3.Stmt
	revokeToken, revokeBefore              *sqlite3.Stmt
	addTrail, keepTrails, oldTrail         *sqlite3.Stmt
	dropOldTrails                          *sqlite3.Stmt
	addSight, forgetSights, dropSights     *sqlite3.Stmt
	addRevocation                          *sqlite3.Stmt
	eventRow, recall                       *sqlite3.Stmt
	mailOf, setTargets, markErased         *sqlite3.Stmt
	naming, unsign                         *sqlite3.Stmt
	eraseAll                               []*sqlite3.Stmt
}

func (p *people) prepare(c *sqlite3.Conn) error {
	err := prepareAll(c, map[**sqlite3.Stmt]string{
		&p.groupMembers: `SELECT user FROM members WHERE grp = ?1 AND stored = 1
			UNION SELECT user FROM token_members WHERE grp = ?1 AND until > ?2 ORDER BY user LIMIT ?3`,
		&p.countStored:  "SELECT count(*) FROM members WHERE grp = ? AND stored = 1",
		&p.countMember:  "SELECT count(*) FROM members WHERE grp = ? AND user = ? AND stored = 1",
		&p.tokenMembers: "SELECT grp, token, until FROM token_members WHERE user = ?",
		&p.addToken: `INSERT INTO token_members (grp, user, token, token_id, issued, until) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (grp, user, token) DO UPDATE SET until = max(until, excluded.until)`,
		&p.dropToken:  "DELETE FROM token_members WHERE grp = ? AND user = ? AND token = ?",
		&p.dropTokens: "DELETE FROM token_members WHERE grp = ? AND user = ?",
		&p.oldToken:   "SELECT 1 FROM token_members WHERE until <= ? LIMIT 1",
		&p.oldTokens: `DELETE FROM token_members WHERE (grp, user, token) IN
			(SELECT grp, user, token FROM token_members WHERE until <= ? ORDER BY until LIMIT ?)`,
		&p.revokeToken:  "DELETE FROM token_members WHERE user = ? AND (token_id = ? OR token = '' AND token_id = '')",
		&p.revokeBefore: "DELETE FROM token_members WHERE user = ? AND issued < ?",
		&p.addMember: `INSERT INTO members (grp, user, stored, until) VALUES (?, ?, 1, 0)
			ON CONFLICT (grp, user) DO UPDATE SET stored = 1`,
		&p.dropMember: "DELETE FROM members WHERE grp = ? AND user = ?",
		&p.addTrail:   "INSERT INTO trails (user, ended, session, trail) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		&p.keepTrails: `DELETE FROM trails WHERE user = ?1 AND (ended, session) NOT IN
			(SELECT ended, session FROM trails WHERE user = ?1 ORDER BY ended DESC, session DESC LIMIT ?2)`,
		&p.oldTrail: "SELECT 1 FROM trails WHERE ended < ? LIMIT 1",
		&p.dropOldTrails: `DELETE FROM trails WHERE (user, ended, session) IN
			(SELECT user, ended, session FROM trails WHERE ended < ? LIMIT ?)`,
		&p.addSight:     "INSERT INTO sights (id, user, session, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		&p.dropSights:   "DELETE FROM sights WHERE user = ?",
		&p.forgetSights: "DELETE FROM sights WHERE id IN (SELECT id FROM log WHERE no <= ?)",
		&p.addRevocation: `INSERT INTO revocations (user, token_id, issued_before) VALUES (?, ?, ?)
			ON CONFLICT (user, token_id) DO UPDATE SET issued_before = max(issued_before, excluded.issued_before)`,
		&p.eventRow: "SELECT no, born, targets, ifnull(topic, ''), event IS NOT NULL, recalled FROM log WHERE id = ?",
		&p.recall:   "UPDATE log SET recalled = ? WHERE no = ? AND recalled = 0",
		&p.mailOf: `SELECT mail.seq, mail.no, ifnull(length(log.event), 0) FROM mail CROSS JOIN log ON log.no = mail.no
			WHERE mail.user = ? AND mail.seq > ? ORDER BY mail.seq LIMIT ?`,
		&p.setTargets: "UPDATE log SET targets = ? WHERE no = ?",
		&p.markErased: "INSERT INTO erased (name, head) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET head = max(head, excluded.head)",
		&p.naming: `SELECT no, born, targets, ifnull(topic, ''), event IS NOT NULL, instr(targets, ?), sender = ?
			FROM log WHERE no > ? ORDER BY no LIMIT ?`,
		&p.unsign: "UPDATE log SET sender = '' WHERE no IN (?, ?) AND event IS NULL",
	})
	if err != nil {
		return err
	}
	for _, sql := range []string{
		"DELETE FROM topics WHERE user = ?", "DELETE FROM members WHERE user = ?", "DELETE FROM token_members WHERE user = ?",
		"DELETE FROM trails WHERE user = ?",
		"DELETE FROM sights WHERE user = ?", "DELETE FROM users WHERE user = ?",
	} {
		var s *sqlite3.Stmt
		if err := prepareAll(c, map[**sqlite3.Stmt]string{&s: sql}); err != nil {
			return err
		}
		p.eraseAll = append(p.eraseAll, s)
	}
	return nil
}

// count runs a statement that answers with one number.
func (a args) count() (n int, err error) {
	err = a.each(func(r *sqlite3.Stmt) bool {
		n = r.ColumnInt(0)
		return false
	})
	return n, err
}

// members lists who belongs to a group at this moment.
func (w *writer) members(group string) (users []string, err error) {
	err = with(w.store.groupMembers).text(group).int(w.now).int(bridge.MaxGroupMembers).each(func(r *sqlite3.Stmt) bool {
		users = append(users, r.ColumnText(0))
		return true
	})
	return users, err
}

// setMember puts a user into a group, or takes them out.
func (w *writer) setMember(group, user string, member bool) error {
	if w.scarce && member {
		return refuse(errDiskFull)
	}
	if err := w.begin(); err != nil {
		return err
	}
	if !member {
		delete(w.sizes, group)
		if err := with(w.store.dropTokens).text(group).text(user).exec(); err != nil {
			return err
		}
		return with(w.store.dropMember).text(group).text(user).exec()
	}
	there, err := with(w.store.countMember).text(group).text(user).count()
	if err != nil || there > 0 {
		return err
	}
	stored, ok := w.sizes[group]
	if !ok {
		if stored, err = with(w.store.countStored).text(group).count(); err != nil {
			return err
		}
	}
	w.sizes[group] = stored
	if stored >= bridge.MaxGroupMembers {
		return refuse(bridge.ErrGroupFull)
	}
	w.sizes[group]++
	return with(w.store.addMember).text(group).text(user).exec()
}

// sight keeps that an event was seen, where it is still the user's: they may have
// been erased since it was looked up.
func (w *writer) sight(user, session, id string, at int64) error {
	k, err := w.store.find(id)
	if err != nil {
		return err
	}
	rec, err := w.record(user)
	if err != nil {
		return err
	}
	theirs := slices.ContainsFunc(k.places, func(p place) bool {
		return p.user == user || p.user == "" && rec.seen && (p.seq == 0 || rec.first < p.seq)
	})
	if !theirs || w.scarce {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	return with(w.store.addSight).text(id).text(user).text(session).int(at).exec()
}

// wasSeen notes when a user was last there; it is written with the next acks.
func (w *writer) wasSeen(rec *record, at int64) {
	rec.lastSeen = max(rec.lastSeen, at)
	w.acks.add(rec.user, rec.acked, rec.lastSeen)
}

// pruneTrails forgets trails as it forgets ids.
func (w *writer) pruneTrails() (more bool, err error) {
	before := w.now - int64(w.opts.IDRetention)
	if n, err := with(w.store.oldTrail).int(before).count(); err != nil || n == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	err = with(w.store.dropOldTrails).int(before).int(pruneIDs).exec()
	return true, err
}
