package sqlite

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/walfile"
)

// reserveName is a file of zeros that keeps room on the disk. When the disk is
// full, that room is given up, for as long as a transaction takes, for what makes
// room again: taking out what has expired, erasing and recalling, and copying the
// write-ahead log.
const reserveName = "bridge.reserve"

// Bounds of what may be on its way into the main file: a share of the disk, in bytes.
const (
	reserveShare = 64
	minReserve   = 256 << 10
	maxReserve   = 8 << 20
)

// errDiskFull refuses appends until there is room for the reserve again, and three
// times its size beside it.
var errDiskFull = fmt.Errorf("%w: the disk of the data folder is full: free some of it, or erase users; messages that expire make room, too", bridge.ErrUnavailable)

// reserve is the room that is kept. One goroutine uses it.
type reserve struct {
	dir string
	// size is how much of the write-ahead log may have yet to be copied, about, and twice
	// what the open transaction holds. When others have filled the disk, the main file
	// grows by the one; then the other is written into the log, and copied. So there is
	// twice that room in the file.
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

// whole is how large the file is when nobody has needed it.
func (r *reserve) whole() int64 { return 2 * r.size }

// fill takes the room, or as much of it as there is. It returns errDiskFull where
// that is not all of it, or where so little is left beside it that the disk would
// be full again a moment later.
func (r *reserve) fill() error {
	held, err := sizeOf(r.path())
	if err != nil {
		return err
	}
	if held > r.whole() {
		if err := os.Truncate(r.path(), r.whole()); err != nil {
			return err
		}
	}
	if held < r.whole() {
		if err := r.extend(r.whole() - max(held, 0)); walfile.Full(err) {
			return errDiskFull
		} else if err != nil {
			return err
		}
	}
	if r.free() < 3*r.size {
		return errDiskFull
	}
	return nil
}

// extend takes so many bytes more.
func (r *reserve) extend(n int64) error {
	f, err := os.OpenFile(r.path(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, zeros{}, n)
	return errors.Join(err, f.Close())
}

// scarce reports whether so little room is left that only what makes room again may
// use it.
func (r *reserve) scarce() bool {
	held, err := sizeOf(r.path())
	return err == nil && r.free() < r.whole()+r.size-max(held, 0)
}

// release gives the room up.
func (r *reserve) release() error {
	if err := os.Remove(r.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// free is how many bytes are free on the disk; the largest number where that cannot
// be told.
func (r *reserve) free() int64 {
	free, _, ok := r.space(r.dir)
	if !ok {
		return math.MaxInt64
	}
	return free
}

// guardEvery is how much is written between two looks at the disk, in bytes.
const guardEvery = 256 << 10

// guard is called after each commit. To copy the write-ahead log into the main file
// may take as much room as the log has. So the log is emptied while there is that
// much room, and where too little is left then, no more messages are taken. The writer
// waits for a checkpointer that lags behind: others may fill the disk at any moment.
func (w *writer) guard() {
	end, r := w.store.vfs.LogEnd(), w.store.reserve
	if end >= w.guarded && end-w.guarded < min(guardEvery, r.size/4) {
		return
	}
	w.guarded = end
	w.holdRoom()
	w.lookForRoom()
	if w.store.checkpoints.behind() > r.size {
		w.copied(w.store.checkpoints.catchUp())
	}
	if r.free() >= end+2*r.size {
		return
	}
	w.emptyLog()
	w.guarded = 0
	if r.free() < 2*r.size {
		w.store.health.setFull(true)
	}
}

// useRoom gives up the reserve for what is about to be written on a full disk.
func (w *writer) useRoom() {
	if err := w.store.reserve.release(); err != nil {
		w.opts.Logger.Warn("the room that is kept for a full disk could not be given up", "error", err)
	}
}

// keepRoom is called after a commit on a full disk: it empties the log, and takes the
// room that this gives back before another process does. What is in the log already is
// copied before anything is added to it, which may take the room that the copying needs.
func (w *writer) keepRoom() {
	w.useRoom()
	w.emptyLog()
	if err := w.fill(); err != nil && !walfile.Full(err) {
		w.opts.Logger.Error("what the journal has could not be put into the tables", "error", err)
	}
	w.emptyLog()
	if j := w.tail.journal; j.Settled() {
		if err := j.Remove(); err != nil {
			w.opts.Logger.Warn("the journal could not be taken off the full disk", "error", err)
		}
	}
	w.holdRoom()
}

// holdRoom fills the reserve up again: somebody may have removed its file.
func (w *writer) holdRoom() {
	if err := w.store.reserve.fill(); err != nil && !errors.Is(err, errDiskFull) {
		w.opts.Logger.Warn("no room is kept for a full disk", "error", err)
	}
}

// emptyLog copies the write-ahead log into the main file and gives its room back.
// A reader that still needs it keeps it until the next turn.
func (w *writer) emptyLog() { w.copied(w.store.checkpoints.truncate()) }

// copied logs why the log could not be copied, unless that will pass.
func (w *writer) copied(err error) {
	if err != nil && !errors.Is(err, sqlite3.BUSY) && !walfile.Full(err) {
		w.opts.Logger.Warn("the write-ahead log cannot be copied into the main file", "error", err)
	}
}

// zeros is an endless file of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
