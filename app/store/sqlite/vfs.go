package sqlite

import (
	"os"
	"strconv"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"hookbridge/app/guard"
)

// maxGathered is how much of one commit is held back before it is written on,
// in bytes: larger commits are rare, and memory is to stay bounded.
const maxGathered = 1 << 20

// walVFS is the driver's own file access, with three differences: files are made
// for the owner's eyes only, what goes into the write-ahead log is gathered into
// one write a commit, and nothing deleted goes into the main file (see wiped.go).
type walVFS struct {
	vfs.VFSFilename
	name string
	// end is where the last write into the log ended, in bytes.
	end atomic.Int64
	// length is how long the main file is at least, in bytes: what goes into it goes
	// through here.
	length atomic.Int64
	// cut: somebody else has made the log shorter than what was written into it.
	cut atomic.Bool
	// large: the main file has outgrown what wiped.go can tell apart.
	large atomic.Bool
	guard *guard.Guard
	// fault, when set, may fail an access to the log; only tests set it.
	fault atomic.Pointer[func(op string) error]
}

// vfsCount numbers the registrations: the driver's registry is one for the process.
var vfsCount atomic.Uint64

// newWALVFS registers a file system of its own for one engine; close takes it back.
func newWALVFS() *walVFS {
	v := &walVFS{
		VFSFilename: vfs.Find("").(vfs.VFSFilename),
		name:        "hookbridge-" + strconv.FormatUint(vfsCount.Add(1), 10),
	}
	vfs.Register(v.name, v)
	return v
}

func (v *walVFS) close() { vfs.Unregister(v.name) }

func (v *walVFS) failing(op string) error {
	if f := v.fault.Load(); f != nil {
		return (*f)(op)
	}
	return nil
}

// survive, deferred, makes a failed access of a panic: SQLite, in the middle of
// whose work a file is accessed, rolls back after the one and not after the other.
func (v *walVFS) survive(err *error) {
	if recover() != nil {
		v.guard.Caught("store file")
		*err = sqlite3.IOERR
	}
}

// OpenFilename implements vfs.VFSFilename.
func (v *walVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if flags&vfs.OPEN_CREATE != 0 && name != nil {
		if err := private(name.String()); err != nil {
			return nil, flags, err
		}
		if flags&vfs.OPEN_MAIN_DB != 0 {
			// The shared index beside the log is made by the driver itself,
			// later, with the process's umask.
			if err := private(name.String() + "-shm"); err != nil {
				return nil, flags, err
			}
		}
	}
	f, out, err := v.VFSFilename.OpenFilename(name, flags)
	switch {
	case err != nil:
		return f, out, err
	case flags&vfs.OPEN_WAL != 0:
		f = &walFile{File: f, vfs: v}
	case flags&vfs.OPEN_MAIN_DB != 0:
		f, err = newMainFile(f, v)
	}
	return f, out, err
}

// orFull makes SQLite's own error of one that means that a file could not grow. The
// driver passes those of the operating system on as any other failed access.
func orFull(err error) error {
	if fullDisk(err) {
		return sqlite3.FULL
	}
	return err
}

// private makes the file with mode 0600 where it does not exist yet.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return sqlite3.CANTOPEN
	}
	if f.Close() != nil {
		return sqlite3.CANTOPEN
	}
	return nil
}

// walFile is one connection's handle on the write-ahead log. SQLite writes a
// header and a page for every changed page, one after the other, then syncs
// (with synchronous = FULL, which every connection here has), and only then makes
// the commit visible to other connections through the shared index; so nobody looks for these bytes before Sync, and an error that shows
// only in Sync fails the commit as well as one in a write.
type walFile struct {
	vfs.File
	vfs *walVFS
	buf []byte // not written yet
	off int64  // where buf belongs
}

func (f *walFile) flush() (err error) {
	if len(f.buf) == 0 {
		return nil
	}
	defer func() { f.buf = f.buf[:0] }()
	defer f.vfs.survive(&err)
	if err := f.vfs.failing("write"); err != nil {
		return err
	}
	// A log that was cut takes the write, and leaves a hole before it: after a
	// restart nothing behind that hole would be found.
	size, err := f.File.Size()
	if err != nil {
		return err
	}
	if size < f.vfs.end.Load() {
		f.vfs.cut.Store(true)
		return sqlite3.IOERR_WRITE
	}
	n, err := f.File.WriteAt(f.buf, f.off)
	if err == nil {
		f.vfs.end.Store(f.off + int64(n))
	}
	err = orFull(err)
	// After an error SQLite rolls back and writes these places anew.
	if cap(f.buf) > 2*maxGathered {
		f.buf = nil
	}
	return err
}

// WriteAt implements vfs.File.
func (f *walFile) WriteAt(p []byte, off int64) (int, error) {
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
func (f *walFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// Truncate implements vfs.File.
func (f *walFile) Truncate(size int64) error {
	if err := f.flush(); err != nil {
		return err
	}
	if err := f.File.Truncate(size); err != nil {
		return err
	}
	f.vfs.end.Store(size)
	return nil
}

// Sync implements vfs.File.
func (f *walFile) Sync(flags vfs.SyncFlag) (err error) {
	defer f.vfs.survive(&err)
	if err := f.flush(); err != nil {
		return err
	}
	if err := f.vfs.failing("sync"); err != nil {
		return err
	}
	return f.File.Sync(flags)
}

// Size implements vfs.File.
func (f *walFile) Size() (int64, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Close implements vfs.File.
func (f *walFile) Close() error {
	err := f.flush()
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}
