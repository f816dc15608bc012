package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/walfile"
)

var _ bridge.Archive = (*Archive)(nil)

// Keys of meta that an import sets.
const (
	epochKey  = "epoch"
	importKey = "import" // bridge.ImportMark while it is not finished
)

// Archive is the store in one folder while no bridge runs on it. One goroutine
// uses it.
type Archive struct {
	opts Options
	path string
	lock *dirLock
	vfs  *walfile.VFS
	conn *sqlite3.Conn
	sql  *statements
	loading
	messages *sqlite3.Stmt // in a mailbox, by place

	epoch string
	begun bool // an import into this store is not finished
}

// OpenArchive opens the store in o.Dir, made where it is missing, to carry it
// to another store or to load one that comes from there. ErrInUse while a
// bridge runs on it. The context covers opening only.
func OpenArchive(ctx context.Context, o Options) (*Archive, error) {
	o, lock, err := occupy(ctx, o)
	if err != nil {
		return nil, err
	}
	a := &Archive{opts: o, path: filepath.Join(o.Dir, fileName), lock: lock, vfs: walfile.New(nil)}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// open opens the file.
func (a *Archive) open() (err error) {
	// Without a store's own checkpoints SQLite does them: every so many pages
	// of the write-ahead log, so that this stays small however much is loaded.
	a.conn, err = connect(a.vfs, a.path, setupWriter+"; PRAGMA wal_autocheckpoint = 2000")
	if err != nil {
		return err
	}
	if err := migrate(a.conn, a.path); err != nil {
		return err
	}
	if a.sql, err = newStatements(a.conn); err != nil {
		return err
	}
	if err := a.takeJournal(); err != nil {
		return err
	}
	if err := a.loading.prepare(a.conn, a.sql); err != nil {
		return err
	}
	err = prepareAll(a.conn, map[**sqlite3.Stmt]string{&a.messages: `SELECT mail.seq, mail.expires, log.id, ifnull(log.topic, ''), log.event
		FROM mail CROSS JOIN log ON log.no = mail.no
		WHERE mail.user = ? AND mail.expires > ? ORDER BY mail.seq`})
	if err != nil {
		return err
	}
	if a.epoch, err = metaOf(a.conn, epochKey); err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	mark, err := metaOf(a.conn, importKey)
	if err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	a.begun = mark != ""
	return nil
}

// takeJournal puts into the file what a store that was killed has left in its journal.
func (a *Archive) takeJournal() error {
	l, err := loadLives(a.conn)
	if err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	e := &Store{opts: a.opts, lives: l, vfs: a.vfs, reserve: newReserve(a.opts.Dir), health: &health{logger: a.opts.Logger},
		acks: &ackBook{dirty: make(map[string]dirt)}}
	w, err := newWriter(e, a.sql)
	if err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	return w.recoverJournal()
}

// Epoch implements bridge.Archive.
func (a *Archive) Epoch() (string, error) {
	if a.begun {
		return "", fmt.Errorf("%s: %w", a.path, bridge.ErrUnfinished)
	}
	return a.epoch, nil
}

// Close implements bridge.Archive.
func (a *Archive) Close() error {
	if a.lock == nil {
		return bridge.ErrClosed
	}
	err := closeConn(a.conn)
	a.vfs.Close()
	err = errors.Join(err, a.lock.Close())
	a.conn, a.lock = nil, nil
	return err
}

// usable is asked before anything is done.
func (a *Archive) usable(ctx context.Context) error {
	if a.conn == nil {
		return bridge.ErrClosed
	}
	return ctx.Err()
}

// Begin implements bridge.Archive. A store that a bridge has opened, and in which
// nothing has happened, has no life to lose: its name goes, until the import brings
// its own.
func (a *Archive) Begin(ctx context.Context) error {
	if err := a.usable(ctx); err != nil {
		return err
	}
	if a.begun {
		if err := a.clear(); err != nil {
			return err
		}
	}
	if err := a.mustBeEmpty(); err != nil {
		return err
	}
	err := a.change(func() error {
		return firstOf(with(a.dropMeta).text(epochKey).exec(), a.dropLives.Exec(),
			with(a.setMeta).text(importKey).text(bridge.ImportMark).exec())
	})
	if err != nil {
		return fmt.Errorf("begin the import into %s: %w", a.path, err)
	}
	a.begun, a.epoch = true, ""
	return nil
}

// mustBeEmpty is ErrNotEmpty where something is kept.
func (a *Archive) mustBeEmpty() error {
	n, err := queryInt(a.conn, `SELECT EXISTS (SELECT 1 FROM log) OR EXISTS (SELECT 1 FROM mail) OR EXISTS (SELECT 1 FROM users)
		OR EXISTS (SELECT 1 FROM revocations) OR EXISTS (SELECT 1 FROM members) OR EXISTS (SELECT 1 FROM token_members) OR EXISTS (SELECT 1 FROM erased)
		OR EXISTS (SELECT 1 FROM trails) OR EXISTS (SELECT 1 FROM sights) OR EXISTS (SELECT 1 FROM topics)
		OR EXISTS (SELECT 1 FROM callbacks) OR EXISTS (SELECT 1 FROM timers)`)
	if err != nil {
		return fmt.Errorf("read %s: %w", a.path, err)
	}
	if n != 0 {
		return fmt.Errorf("%s: %w", a.path, bridge.ErrNotEmpty)
	}
	return nil
}

// Finish implements bridge.Archive.
func (a *Archive) Finish(ctx context.Context, epoch string) error {
	if err := a.usable(ctx); err != nil {
		return err
	}
	err := a.change(func() error {
		return firstOf(with(a.setMeta).text(epochKey).text(epoch).exec(), with(a.dropMeta).text(importKey).exec())
	})
	if err != nil {
		return fmt.Errorf("finish the import into %s: %w", a.path, err)
	}
	a.begun, a.epoch = false, epoch
	if _, _, err := a.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_TRUNCATE); err != nil {
		return fmt.Errorf("the import into %s is finished, but its write-ahead log could not be copied: %w", a.path, err)
	}
	return nil
}

// clear takes the file away, and begins a new one. That needs no room on the disk,
// for want of which the import may have broken off.
func (a *Archive) clear() error {
	err := closeConn(a.conn)
	a.conn = nil
	if err != nil {
		return fmt.Errorf("clear %s: %w", a.path, err)
	}
	// The main file goes first: a write-ahead log without one says nothing.
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(a.path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("clear the store: %w", err)
		}
	}
	a.vfs.Removed()
	return a.open()
}

// change runs f in a transaction.
func (a *Archive) change(f func() error) error {
	if err := a.sql.begin.Exec(); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = a.sql.commit.Exec()
	}
	if err != nil && !a.conn.GetAutocommit() {
		if rerr := a.sql.rollback.Exec(); rerr != nil {
			err = fmt.Errorf("%w (and rolling back: %w)", err, rerr)
		}
	}
	return err
}

// refuseHalf keeps a Store off a file that holds a part of an import.
func refuseHalf(c *sqlite3.Conn, path string) error {
	mark, err := metaOf(c, importKey)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if mark != "" {
		return fmt.Errorf("%s: %w", path, bridge.ErrUnfinished)
	}
	return nil
}

// metaOf reads one value of meta; empty where there is none.
func metaOf(c *sqlite3.Conn, key string) (value string, err error) {
	s, _, err := c.Prepare("SELECT value FROM meta WHERE key = ?")
	if err != nil {
		return "", err
	}
	err = with(s).text(key).each(func(r *sqlite3.Stmt) bool {
		value = r.ColumnText(0)
		return false
	})
	return value, firstOf(err, s.Close())
}
