package walfile

// With secure_delete SQLite writes zeros over what it deletes. But when it moves
// rows from one page to another to even them out, it leaves copies of them in
// the page's free middle, where they outlive the rows. So that nothing is left of
// what a store erases, that middle is filled with zeros wherever a page is written
// into the main file; copies in the write-ahead log end with the log.

import (
	"encoding/binary"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// PageSize is the size, in bytes, that a store's pages must have.
const PageSize = 4096

// maxZeroFilled is how large the main file may be. A page of rows is told by its
// first byte, which in an overflow page is the highest of another page's number:
// below 2, the lowest kind of a page of rows, only up to twice this size.
const maxZeroFilled = 1 << 36

// osFile is all that the driver asks of a main file.
type osFile interface {
	vfs.FileLockState
	vfs.FileSharedMemory
	vfs.FileSizeHint
	vfs.FileHasMoved
	vfs.FilePersistWAL
	vfs.FilePowersafeOverwrite
}

// mainFile is one connection's handle on the main file.
type mainFile struct {
	osFile
	vfs  *VFS
	page [PageSize]byte
}

func newMainFile(f vfs.File, v *VFS) (vfs.File, error) {
	full, ok := f.(osFile)
	if !ok {
		return nil, sqlite3.CANTOPEN
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxZeroFilled {
		v.tooLong.Store(true)
	}
	v.grown(size)
	return &mainFile{osFile: full, vfs: v}, nil
}

// WriteAt implements vfs.File.
func (f *mainFile) WriteAt(p []byte, off int64) (_ int, err error) {
	defer f.vfs.survive(&err)
	if off > maxZeroFilled {
		f.vfs.tooLong.Store(true)
	}
	if len(p) != PageSize || off%PageSize != 0 || f.vfs.tooLong.Load() || isPointerMap(off/PageSize+1) {
		return f.write(p, off)
	}
	copy(f.page[:], p)
	zeroFill(&f.page, off == 0)
	return f.write(f.page[:], off)
}

func (f *mainFile) write(p []byte, off int64) (int, error) {
	n, err := f.osFile.WriteAt(p, off)
	if err == nil {
		f.vfs.grown(off + int64(n))
	}
	return n, orFull(err)
}

// Truncate implements vfs.File. Whoever finds the file shorter than it was, finds
// the new length noted already.
func (f *mainFile) Truncate(size int64) error {
	f.vfs.length.Store(size)
	return f.osFile.Truncate(size)
}

// grown notes that the main file has so many bytes, or more.
func (v *VFS) grown(size int64) {
	for {
		was := v.length.Load()
		if size <= was || v.length.CompareAndSwap(was, size) {
			return
		}
	}
}

// isPointerMap tells the pages that auto_vacuum keeps its own notes on
// (https://sqlite.org/fileformat2.html §1.8).
func isPointerMap(no int64) bool {
	const (
		apart   = PageSize/5 + 1
		locking = 1<<30/PageSize + 1 // a page that is never used
	)
	if no < 2 {
		return false
	}
	first := (no-2)/apart*apart + 2
	if first == locking {
		first++
	}
	return no == first
}

// zeroFill clears what lies between the list of a page's rows and the first of them;
// pages of other kinds stay as they are (§1.6).
func zeroFill(page *[PageSize]byte, first bool) {
	head := 0
	if first { // the file's own header is in front
		head = 100
	}
	list := head + 8
	switch page[head] {
	case 2, 5:
		list = head + 12
	case 10, 13:
	default:
		return
	}
	from := list + 2*int(binary.BigEndian.Uint16(page[head+3:]))
	to := int(binary.BigEndian.Uint16(page[head+5:]))
	if from < to && to <= PageSize {
		clear(page[from:to])
	}
}
