// Package walfile is the file access of SQLite for a store in write-ahead mode: it
// gathers what a commit writes into one write, keeps files for their owner alone,
// and leaves nothing of what was deleted in the main file.
package walfile

import (
	"errors"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"hookbridge/app/guard"
)

// VFS is the driver's own file access with three differences: files are made for
// the owner's eyes only, what goes into the write-ahead log is gathered into one
// write a commit (log.go), and nothing deleted goes into the main file
// (zerofill.go). It serves the connections of one store.
type VFS struct {
	vfs.VFSFilename
	name  string
	guard *guard.Guard

	logEnd  atomic.Int64 // where the last write into the log ended, in bytes
	unsure  atomic.Bool  // an fsync of the log has failed: a later one says nothing of what was written before
	logCut  atomic.Bool  // somebody else has made the log shorter than what was written into it
	length  atomic.Int64 // of the main file, in bytes, at least: what goes into it goes through here
	tooLong atomic.Bool  // the main file has outgrown what zerofill.go can tell apart

	// Fault, when set, may fail an access to the log: "write" or "sync". It is for
	// tests of those who use the files.
	Fault atomic.Pointer[func(op string) error]
}

// vfsCount numbers the registrations: the driver's registry is one for the process.
var vfsCount atomic.Uint64

// New registers a file access of its own for one store; Close takes it back. The
// guard counts panics in it, which SQLite gets as failed accesses.
func New(g *guard.Guard) *VFS {
	v := &VFS{
		VFSFilename: vfs.Find("").(vfs.VFSFilename),
		name:        "hookbridge-" + strconv.FormatUint(vfsCount.Add(1), 10),
		guard:       g,
	}
	vfs.Register(v.name, v)
	return v
}

// Name is what a connection's URI calls this file access.
func (v *VFS) Name() string { return v.name }

// Close is called once no connection uses it any more.
func (v *VFS) Close() { vfs.Unregister(v.name) }

// LogEnd is how much of the write-ahead log is in use, in bytes.
func (v *VFS) LogEnd() int64 { return v.logEnd.Load() }

// LogEmptied notes that a checkpoint has copied all of the log: the next commit
// begins at its start.
func (v *VFS) LogEmptied() {
	v.logEnd.Store(0)
	v.unsure.Store(false)
}

// SyncLog makes everything durable that was committed before it is called (see
// Unsynced). It fails, until LogEmptied, where an fsync has failed since: what that one
// lost, the next would not write again.
func (v *VFS) SyncLog(path string) (err error) {
	if v.unsure.Load() {
		return sqlite3.IOERR_FSYNC
	}
	if err := v.Failing("sync"); err != nil {
		v.unsure.Store(true)
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil {
		v.unsure.Store(true)
		return err
	}
	return nil
}

// LogUnsure reports whether SyncLog would fail for that reason.
func (v *VFS) LogUnsure() bool { return v.unsure.Load() }

// LogCut reports whether a write was refused because the log was shorter than what
// had been written into it.
func (v *VFS) LogCut() bool { return v.logCut.Load() }

// Length is how long the main file is at least, in bytes.
func (v *VFS) Length() int64 { return v.length.Load() }

// Removed notes that both files were taken away, while no connection was open.
func (v *VFS) Removed() {
	v.logEnd.Store(0)
	v.length.Store(0)
}

// Failing is the error that Fault gives an access; nil without one. Files of a store that
// SQLite knows nothing of ask it too.
func (v *VFS) Failing(op string) error {
	if f := v.Fault.Load(); f != nil {
		return (*f)(op)
	}
	return nil
}

// survive, deferred, turns a panic into a failed access: after that SQLite rolls
// back, while a panic would leave it in the middle of its work.
func (v *VFS) survive(err *error) {
	if recover() != nil {
		v.guard.Caught("store file")
		*err = sqlite3.IOERR
	}
}

// OpenFilename implements vfs.VFSFilename.
func (v *VFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
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
		f = &logFile{File: f, vfs: v}
	case flags&vfs.OPEN_MAIN_DB != 0:
		f, err = newMainFile(f, v)
	}
	return f, out, err
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
