package sqlite

import (
	"encoding/binary"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// With secure_delete SQLite writes zeros over what it deletes. But when it moves
// rows from one page to another to even them out, it leaves copies of them in
// the page's free middle, where they outlive the rows. So that Erase can keep
// its word, that middle is wiped wherever a page is written into the main file;
// copies in the write-ahead log end with it.

// pageSize is what openFile sets.
const pageSize = 4096

// maxWiped is how large the main file may be. A page of rows is told by its
// first byte, which in an overflow page is the highest of another page's number:
// below 2, the lowest kind of a page of rows, only up to twice this size.
const maxWiped = 1 << 36

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
	vfs  *walVFS
	page [pageSize]byte
}

func newMainFile(f vfs.File, v *walVFS) (vfs.File, error) {
	full, ok := f.(osFile)
	if !ok {
		return nil, sqlite3.CANTOPEN
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxWiped {
		v.large.Store(true)
	}
	v.grown(size)
	return &mainFile{osFile: full, vfs: v}, nil
}

// WriteAt implements vfs.File.
func (f *mainFile) WriteAt(p []byte, off int64) (_ int, err error) {
	defer f.vfs.survive(&err)
	if off > maxWiped {
		f.vfs.large.Store(true)
	}
	if len(p) != pageSize || off%pageSize != 0 || f.vfs.large.Load() || isPointerMap(off/pageSize+1) {
		return f.write(p, off)
	}
	copy(f.page[:], p)
	wipe(&f.page, off == 0)
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
func (v *walVFS) grown(size int64) {
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
		apart   = pageSize/5 + 1
		locking = 1<<30/pageSize + 1 // a page that is never used
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

// wipe clears what lies between the list of a page's rows and the first of them;
// pages of other kinds stay as they are (§1.6).
func wipe(page *[pageSize]byte, first bool) {
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
	if from < to && to <= pageSize {
		clear(page[from:to])
	}
}
