package sqlite

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// reserveName is a file of zeros that keeps room on the disk. When the disk is
// full, that room is given up for what makes room again: taking out what has
// expired, erasing and recalling, and copying the write-ahead log.
const reserveName = "bridge.reserve"

// Sizes of the reserve: a share of the disk, within bounds, in bytes.
const (
	reserveShare = 64
	minReserve   = 256 << 10
	maxReserve   = 8 << 20
)

// errDiskFull is what appends are refused with until there is room for the
// reserve again, and as much beside it.
var errDiskFull = fmt.Errorf("%w: the disk of the data folder is full: free some of it, or erase users; messages that expire make room, too", bridge.ErrUnavailable)

// fullDisk tells the errors that mean that a file could not grow.
func fullDisk(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) || errors.Is(err, errQuota)
}

// reserve is the room that is kept. One goroutine uses it.
type reserve struct {
	dir   string
	size  int64
	space func(dir string) (free, total int64, ok bool) // diskSpace
}

func newReserve(dir string) *reserve {
	r := &reserve{dir: dir, size: maxReserve, space: diskSpace}
	if _, total, ok := r.space(dir); ok {
		r.size = min(max(total/reserveShare, minReserve), maxReserve)
	}
	return r
}

func (r *reserve) path() string { return filepath.Join(r.dir, reserveName) }

// fill takes the room, which is nothing new where it is taken already; it leaves
// nothing behind where there is not enough.
func (r *reserve) fill() (err error) {
	if size, err := sizeOf(r.path()); err != nil || size == r.size {
		return err
	}
	f, err := os.OpenFile(r.path(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, zeros{}, r.size)
	err = errors.Join(err, f.Close())
	if err == nil && r.free() < 3*r.size { // with less it would be full again a moment later
		err = errDiskFull
	}
	if err != nil {
		err = errors.Join(err, r.release())
	}
	return err
}

// release gives the room up.
func (r *reserve) release() error {
	if err := os.Remove(r.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// free is how many bytes the disk has; more than enough where that cannot be told.
func (r *reserve) free() int64 {
	free, _, ok := r.space(r.dir)
	if !ok {
		return math.MaxInt64
	}
	return free
}

// guardEvery is how much is written between two looks at the disk, in bytes.
const guardEvery = 256 << 10

// guard is asked after each commit. What stands in the write-ahead log may need
// as much room again in the main file; the log is emptied while there is so much,
// and where that leaves too little, no more messages are taken.
func (w *writer) guard() {
	end := w.engine.vfs.end.Load()
	if end >= w.guarded && end-w.guarded < guardEvery {
		return
	}
	w.guarded = end
	r := w.engine.reserve
	if r.free() >= end+2*r.size {
		return
	}
	w.emptyLog()
	w.guarded = 0
	if r.free() < 2*r.size {
		w.engine.health.setFull(true)
		w.makeRoom()
	}
}

// makeRoom gives up the reserve for what is written next.
func (w *writer) makeRoom() {
	if err := w.engine.reserve.release(); err != nil {
		w.opts.Logger.Warn("the room that is kept for a full disk could not be given up", "error", err)
	}
	w.emptyLog()
}

// emptyLog copies the write-ahead log into the main file and gives its room back.
// A reader that still needs it keeps it until the next turn.
func (w *writer) emptyLog() {
	if err := w.engine.checkpoints.truncate(); err != nil && !errors.Is(err, sqlite3.BUSY) && !fullDisk(err) {
		w.opts.Logger.Warn("the write-ahead log cannot be copied into the main file", "error", err)
	}
}

// zeros is an endless file of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
