package walfile

import (
	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// maxGathered is how much of one commit is held back before it is written on,
// in bytes: larger commits are rare, and memory is to stay bounded.
const maxGathered = 1 << 20

// LogSize is how long a log of so many frames is, in bytes (https://sqlite.org/fileformat2.html#walformat).
func LogSize(frames int) int64 { return 32 + int64(frames)*(24+PageSize) }

// logFile is one connection's handle on the write-ahead log. SQLite writes a
// header and a page for every changed page, one after the other, then syncs (with
// synchronous = FULL, which every connection must have), and only then makes the
// commit visible to other connections through the shared index. So nobody looks for
// these bytes before Sync, and an error that shows only in Sync fails the commit as
// well as one in a write.
type logFile struct {
	vfs.File
	vfs *VFS
	buf []byte // not written yet
	off int64  // where buf belongs

	unsynced bool // see Unsynced
}

// Unsynced runs a commit on a connection that is in the log when it returns, and not
// fsynced: whoever needs it to be durable syncs the log afterwards. The new header of a
// log that starts over is fsynced all the same, since without that an old log could be
// found after a power failure.
func Unsynced(c *sqlite3.Conn, commit func() error) error {
	h, err := c.FileControl("main", sqlite3.FCNTL_JOURNAL_POINTER)
	if err != nil {
		return err
	}
	f, ok := h.(*logFile)
	if !ok {
		return sqlite3.CANTOPEN
	}
	f.unsynced = true
	defer func() { f.unsynced = false }()
	return commit()
}

func (f *logFile) flush() (err error) {
	if len(f.buf) == 0 {
		return nil
	}
	defer func() { f.buf = f.buf[:0] }()
	defer f.vfs.survive(&err)
	if err := f.vfs.Failing("write"); err != nil {
		return err
	}
	// A log that was cut takes the write, and leaves a hole before it: after a
	// restart nothing behind that hole would be found.
	size, err := f.File.Size()
	if err != nil {
		return err
	}
	if size < f.vfs.logEnd.Load() {
		f.vfs.logCut.Store(true)
		return sqlite3.IOERR_WRITE
	}
	n, err := f.File.WriteAt(f.buf, f.off)
	if err == nil {
		f.vfs.logEnd.Store(f.off + int64(n))
	}
	err = orFull(err)
	// After an error SQLite rolls back and writes these places anew.
	if cap(f.buf) > 2*maxGathered {
		f.buf = nil
	}
	return err
}

// WriteAt implements vfs.File.
func (f *logFile) WriteAt(p []byte, off int64) (int, error) {
	if len(f.buf) > 0 && (off != f.off+int64(len(f.buf)) || len(f.buf) >= maxGathered) {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	if len(f.buf) == 0 {
		f.off = off
	}
	f.buf = append(f.buf, p...)
	return len(p), nil
}

// ReadAt implements vfs.File.
func (f *logFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// Truncate implements vfs.File.
func (f *logFile) Truncate(size int64) error {
	if err := f.flush(); err != nil {
		return err
	}
	f.vfs.logEnd.Store(size) // before, so that nobody takes the log for one that was cut
	return f.File.Truncate(size)
}

// Sync implements vfs.File.
func (f *logFile) Sync(flags vfs.SyncFlag) (err error) {
	defer f.vfs.survive(&err)
	header := len(f.buf) > 0 && f.off == 0
	if err := f.flush(); err != nil {
		return err
	}
	if f.unsynced && !header {
		return nil
	}
	if err = f.vfs.Failing("sync"); err == nil {
		err = f.File.Sync(flags)
	}
	if err != nil {
		f.vfs.unsure.Store(true)
	}
	return err
}

// Size implements vfs.File.
func (f *logFile) Size() (int64, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Close implements vfs.File.
func (f *logFile) Close() error {
	err := f.flush()
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}
