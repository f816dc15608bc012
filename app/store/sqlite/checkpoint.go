package sqlite

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/app/store/sqlite/journal"
	"hookbridge/app/store/sqlite/walfile"
)

// logSizes are lengths of the write-ahead log, in bytes, at which something is done
// about it.
type logSizes struct {
	copy     int64 // so much more of it is copied into the main file, beside the writer
	restart  int64 // the writer is held for a moment, and the log starts over
	truncate int64 // the space is given back as well
}

// newLogSizes is for a disk on which so many bytes are reserved: what has yet to be
// copied must fit into them when others have filled that disk.
func newLogSizes(reserved int64) logSizes {
	return logSizes{copy: min(4<<20, reserved/2), restart: 16 << 20, truncate: 64 << 20}
}

// checkpointer copies the write-ahead log into the main file on a connection of
// its own, so that no commit has to. Beside a busy writer the copying never catches
// up, and the log would grow for ever. So above a certain length the writer is held
// until the rest is copied, which is little, and the next commit starts the log over.
type checkpointer struct {
	mu     sync.Mutex // one checkpoint at a time: guards conn and gone
	conn   *sqlite3.Conn
	gone   bool // conn is about to be closed
	vfs    *walfile.VFS
	commit *sync.Mutex // held by the writer during a transaction
	logger *slog.Logger
	guard  *guard.Guard
	held   atomic.Bool // a long read needs the log as it is
	kick   chan struct{}
	done   chan struct{}

	// What the writer has committed without an fsync is made durable here.
	log      string // path
	unsynced chan struct{}
	filled   atomic.Uint64    // the last segment of the journal in it
	journal  *journal.Journal // told of that afterwards
	acks     *ackBook         // the same
	syncing  sync.Mutex       // held by one who makes acks durable; taken before mu
	wipe     atomic.Bool      // the journal has what was recalled

	sizes  logSizes
	kicked int64        // the log's length when a copy was last asked for; the writer's goroutine
	copied atomic.Int64 // how much of the log the main file has, in bytes
	failed bool         // the failure has been logged; the checkpointer's goroutine
}

func newCheckpointer(c *sqlite3.Conn, sizes logSizes, v *walfile.VFS, commit *sync.Mutex, l *slog.Logger, g *guard.Guard) *checkpointer {
	return &checkpointer{conn: c, sizes: sizes, vfs: v, commit: commit, logger: l, guard: g,
		kick: make(chan struct{}, 1), done: make(chan struct{}), unsynced: make(chan struct{}, 1)}
}

// look is called by the writer after a commit.
func (c *checkpointer) look() {
	end := c.vfs.LogEnd()
	if end < c.kicked {
		c.kicked = 0 // started over
	}
	if end-c.kicked < c.sizes.copy {
		return
	}
	select {
	case c.kick <- struct{}{}:
		c.kicked = end
	default:
	}
}

// behind is how much of the log has yet to be copied, in bytes. The writer asks.
func (c *checkpointer) behind() int64 {
	end := c.vfs.LogEnd()
	if end < c.copied.Load() {
		c.copied.Store(0) // the log started over
	}
	return end - c.copied.Load()
}

// catchUp copies what has yet to be copied, and waits for that.
func (c *checkpointer) catchUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copyLog()
}

// copyLog copies as much of the log as readers allow.
func (c *checkpointer) copyLog() error {
	_, frames, err := c.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	if errors.Is(err, sqlite3.BUSY) {
		return nil
	}
	if err == nil {
		c.copied.Store(walfile.LogSize(frames))
	}
	return err
}

func (c *checkpointer) loop() {
	defer close(c.done)
	for {
		select {
		case _, open := <-c.kick:
			if !open {
				return
			}
			c.guard.Run("checkpoint", func() { c.noted(c.checkpoint()) })
		case <-c.unsynced:
			c.guard.Run("checkpoint", func() { c.noted(c.sync()) })
		}
	}
}

// committed is called by the writer after a commit without an fsync.
func (c *checkpointer) committed(segment uint64) {
	c.filled.Store(segment)
	select {
	case c.unsynced <- struct{}{}:
	default:
	}
}

// sync makes durable what was committed. Where an fsync of the log has failed, that needs
// all of the log to be copied into the main file.
func (c *checkpointer) sync() error {
	segment, acks := c.filled.Load(), c.acks.writtenSoFar()
	err := c.vfs.SyncLog(c.log)
	if err != nil {
		err = c.truncate()
	}
	if err == nil {
		c.journal.Durable(segment)
		c.acks.durableTo(acks)
	}
	return err
}

// syncAcks returns once the acks that were written so far are durable. Any goroutine may
// call it; those who call it together share an fsync.
func (c *checkpointer) syncAcks() error {
	written := c.acks.writtenSoFar()
	if c.acks.areDurable(written) {
		return nil
	}
	c.syncing.Lock()
	defer c.syncing.Unlock()
	if c.acks.areDurable(written) {
		return nil
	}
	return c.sync()
}

// emptied notes that the main file has all of the log: the journal's copies of what was
// recalled go as well.
func (c *checkpointer) emptied() error {
	c.vfs.LogEmptied()
	c.copied.Store(0)
	c.journal.Durable(c.filled.Load())
	if !c.wipe.Swap(false) {
		return nil
	}
	return c.journal.Wipe()
}

// noted logs the first of several failures, and their end.
func (c *checkpointer) noted(err error) {
	switch {
	case err != nil && !c.failed:
		// Commits go on in the log for as long as there is room for it.
		c.logger.Warn("the write-ahead log cannot be copied into the main file", "error", err)
	case err == nil && c.failed:
		c.logger.Info("the write-ahead log is copied into the main file again")
	}
	c.failed = err != nil
}

// truncate empties the write-ahead log. It returns sqlite3.BUSY while a reader needs
// the log. When the log starts over, the writer drops its cached pages, which may
// still hold what was filled with zeros in the main file (see walfile/zerofill.go).
func (c *checkpointer) truncate() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return bridge.ErrClosed
	}
	c.commit.Lock()
	defer c.commit.Unlock()
	_, _, err := c.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_TRUNCATE)
	if err == nil {
		err = c.emptied()
	}
	return err
}

func (c *checkpointer) checkpoint() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.copyLog(); err != nil {
		return err
	}
	end := c.vfs.LogEnd()
	if end < c.sizes.restart || c.held.Load() {
		return nil
	}
	mode := sqlite3.CHECKPOINT_RESTART
	if end >= c.sizes.truncate {
		mode = sqlite3.CHECKPOINT_TRUNCATE
	}
	c.commit.Lock()
	defer c.commit.Unlock()
	_, _, err := c.conn.WALCheckpoint("main", mode)
	if errors.Is(err, sqlite3.BUSY) {
		return nil // a reader needs the log; the next turn tries again
	}
	if err == nil {
		err = c.emptied()
	}
	return err
}

// close ends the loop; the writer has ended.
func (c *checkpointer) close() {
	close(c.kick)
	<-c.done
	select {
	case <-c.unsynced:
		c.guard.Run("checkpoint", func() { c.noted(c.sync()) })
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}
