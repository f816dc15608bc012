package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// migrations bring a file from one schema version to the next; a file's version
// is how many of them it has seen. Entries are only ever added.
var migrations = []string{
	`CREATE TABLE meta (
		key   TEXT PRIMARY KEY,
		value TEXT NOT NULL
	) WITHOUT ROWID;

	-- One row a message, in order of arrival. born and expires are Unix
	-- nanoseconds; expires is 0 for a message that was never stored. targets
	-- lists users and sequences (see codec.go), barred the sessions that must
	-- not be handed it. Once the message is gone, and only its id is
	-- remembered, event is NULL and no is below zero (see statements.go).
	CREATE TABLE log (
		no      INTEGER PRIMARY KEY,
		id      TEXT NOT NULL,
		digest  BLOB NOT NULL,
		born    INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		targets BLOB NOT NULL,
		sender  TEXT NOT NULL,
		barred  BLOB,
		event   BLOB
	);
	CREATE UNIQUE INDEX log_id ON log (id);
	CREATE INDEX log_expires ON log (expires) WHERE event IS NOT NULL;

	CREATE TABLE mail (
		user    TEXT NOT NULL,
		seq     INTEGER NOT NULL,
		no      INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		PRIMARY KEY (user, seq)
	) WITHOUT ROWID;

	-- head counts only where it is beyond the newest row in mail.
	CREATE TABLE users (
		user       TEXT PRIMARY KEY,
		head       INTEGER NOT NULL,
		trimmed    INTEGER NOT NULL,
		seen       INTEGER NOT NULL,
		first      INTEGER NOT NULL,
		acked_mail INTEGER NOT NULL,
		acked_all  INTEGER NOT NULL
	) WITHOUT ROWID;`,

	`-- type and at (the event's own time, Unix nanoseconds) outlive the payload,
	-- for those who ask what became of an event. recalled is when it was.
	ALTER TABLE log ADD COLUMN type TEXT NOT NULL DEFAULT '';
	ALTER TABLE log ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE log ADD COLUMN topic TEXT;
	ALTER TABLE log ADD COLUMN recalled INTEGER NOT NULL DEFAULT 0;

	-- explicit: messages were taken out of this mailbox that nobody is to miss,
	-- so that not every gap is one that expired; expired is the furthest that
	-- did (see gaps.go).
	ALTER TABLE users ADD COLUMN explicit INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE users ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE users ADD COLUMN last_seen INTEGER NOT NULL DEFAULT 0;

	CREATE TABLE topics (
		user  TEXT NOT NULL,
		topic TEXT NOT NULL,
		seq   INTEGER NOT NULL,
		PRIMARY KEY (user, topic)
	) WITHOUT ROWID;

	-- stored: an operator said so. until: a token did, and is good until then.
	CREATE TABLE members (
		grp    TEXT NOT NULL,
		user   TEXT NOT NULL,
		stored INTEGER NOT NULL,
		until  INTEGER NOT NULL,
		PRIMARY KEY (grp, user)
	) WITHOUT ROWID;
	CREATE INDEX members_user ON members (user);

	CREATE TABLE trails (
		user    TEXT NOT NULL,
		ended   INTEGER NOT NULL,
		session TEXT NOT NULL,
		trail   BLOB NOT NULL,
		PRIMARY KEY (user, ended, session)
	) WITHOUT ROWID;
	CREATE INDEX trails_ended ON trails (ended);

	CREATE TABLE sights (
		id      TEXT NOT NULL,
		user    TEXT NOT NULL,
		session TEXT NOT NULL,
		at      INTEGER NOT NULL,
		PRIMARY KEY (id, user, session)
	) WITHOUT ROWID;
	CREATE INDEX sights_user ON sights (user);

	-- token_id is empty in the row that holds the user's issued_before (Unix
	-- nanoseconds).
	CREATE TABLE revocations (
		user          TEXT NOT NULL,
		token_id      TEXT NOT NULL,
		issued_before INTEGER NOT NULL,
		PRIMARY KEY (user, token_id)
	) WITHOUT ROWID;

	-- Heads of mailboxes whose users were erased, by a hash of the name, so that
	-- sequences never start again.
	CREATE TABLE erased (
		name BLOB PRIMARY KEY,
		head INTEGER NOT NULL
	) WITHOUT ROWID;`,

	`-- What the store has lived through, and where in each mailbox lives began (see
	-- lives.go).
	CREATE TABLE lives (
		no   INTEGER PRIMARY KEY,
		name TEXT NOT NULL UNIQUE
	);
	ALTER TABLE users ADD COLUMN lives BLOB;`,

	`-- size is the payload's, in bytes; deposited is what was ever put into this
	-- mailbox, this row included. Rows from before count as nothing.
	ALTER TABLE mail ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE mail ADD COLUMN deposited INTEGER NOT NULL DEFAULT 0;
	-- What had been deposited up to the place in trimmed.
	ALTER TABLE users ADD COLUMN trimmed_bytes INTEGER NOT NULL DEFAULT 0;`,

	`-- What each token says: that its user is a member of a group until then. token
	-- is its fingerprint; '' in rows from before there were any, of which neither
	-- token_id nor issued (Unix nanoseconds, 0 for none) is known. From here on
	-- members has only what an operator said.
	CREATE TABLE token_members (
		grp      TEXT NOT NULL,
		user     TEXT NOT NULL,
		token    TEXT NOT NULL,
		token_id TEXT NOT NULL,
		issued   INTEGER NOT NULL,
		until    INTEGER NOT NULL,
		PRIMARY KEY (grp, user, token)
	) WITHOUT ROWID;
	CREATE INDEX token_members_user ON token_members (user);
	CREATE INDEX token_members_until ON token_members (until);
	INSERT INTO token_members (grp, user, token, token_id, issued, until)
		SELECT grp, user, '', '', 0, until FROM members WHERE until > 0;
	DELETE FROM members WHERE stored = 0;
	UPDATE members SET until = 0;`,

	`-- Callbacks that wait (dead is 0) or were given up (dead is when; Unix nanoseconds,
	-- as all times). rank is which go first where there are too many (see outbox.go);
	-- due is when to try, NULL behind an earlier message.sent of the user, or dead.
	CREATE TABLE callbacks (
		no      INTEGER PRIMARY KEY,
		id      TEXT NOT NULL,
		backend TEXT NOT NULL,
		type    TEXT NOT NULL,
		user    TEXT NOT NULL,
		rank    INTEGER NOT NULL,
		at      INTEGER NOT NULL,
		due     INTEGER,
		tries   INTEGER NOT NULL,
		since   INTEGER NOT NULL,
		dead    INTEGER NOT NULL,
		last    TEXT NOT NULL,
		body    BLOB NOT NULL
	);
	CREATE UNIQUE INDEX callbacks_id ON callbacks (id);
	CREATE INDEX callbacks_due ON callbacks (backend, due) WHERE due IS NOT NULL;
	CREATE INDEX callbacks_rank ON callbacks (backend, rank) WHERE dead = 0;
	CREATE INDEX callbacks_user ON callbacks (user, backend, rank, dead);
	CREATE INDEX callbacks_dead ON callbacks (backend, dead) WHERE dead > 0;
	CREATE INDEX callbacks_dead_id ON callbacks (backend, id) WHERE dead > 0;

	-- kind: see outboxtimers.go. seq is the message's place in the user's mailbox, 0
	-- for a timer that is about no message.
	CREATE TABLE timers (
		user  TEXT NOT NULL,
		seq   INTEGER NOT NULL,
		kind  INTEGER NOT NULL,
		due   INTEGER NOT NULL,
		id    TEXT NOT NULL,
		event TEXT NOT NULL,
		after INTEGER NOT NULL,
		PRIMARY KEY (user, seq, kind)
	) WITHOUT ROWID;
	CREATE INDEX timers_due ON timers (due);`,

	`-- The segment of the journal that the tables have, and all before it (see
	-- journaling.go).
	INSERT INTO meta (key, value) VALUES ('journal', '0');`,

	`-- Rows that an import brought are not in the order of their age.
	DROP INDEX callbacks_rank;
	CREATE INDEX callbacks_rank ON callbacks (backend, rank, at) WHERE dead = 0;`,
}

// migrate brings the file to the newest schema, each step in one transaction.
func migrate(c *sqlite3.Conn, path string) error {
	version, err := queryInt(c, "PRAGMA user_version")
	if err != nil {
		return fmt.Errorf("read the schema version of %s: %w", path, err)
	}
	if version > int64(len(migrations)) {
		return fmt.Errorf("%s has schema version %d and this program knows versions up to %d: "+
			"run the newer program that wrote it, or restore a copy from before the upgrade", path, version, len(migrations))
	}
	for ; version < int64(len(migrations)); version++ {
		if err := c.Exec(fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA user_version=%d; COMMIT", migrations[version], version+1)); err != nil {
			if !c.GetAutocommit() {
				if rerr := c.Exec("ROLLBACK"); rerr != nil {
					err = fmt.Errorf("%w (and rolling back: %w)", err, rerr)
				}
			}
			return fmt.Errorf("bring %s to schema version %d: %w", path, version+1, err)
		}
	}
	return nil
}

// epochLength is long enough that two stores never share one by chance.
const epochLength = 10

// loadEpoch reads the name of the store's life, and gives it one when it is new.
func loadEpoch(c *sqlite3.Conn) (string, error) {
	// A name needs no escaping.
	if err := c.Exec(fmt.Sprintf("INSERT INTO meta (key, value) VALUES ('%s', '%s') ON CONFLICT DO NOTHING", epochKey, randomName(epochLength))); err != nil {
		return "", err
	}
	return metaOf(c, epochKey)
}

// queryInt runs a statement that answers with one number.
func queryInt(c *sqlite3.Conn, sql string) (int64, error) {
	s, _, err := c.Prepare(sql)
	if err != nil {
		return 0, err
	}
	n, err := with(s).count()
	return int64(n), firstOf(err, s.Close())
}
