// Package journal is a write-ahead journal in front of a slower store. What is written
// into it is durable at once; the store takes it over later, a segment at a time, and
// says when it is durable there. Then the journal's room is used again.
//
// There are two files, which take turns. Each begins with a header of 16 bytes (magic,
// a random salt); entries follow, each with a header of its own:
//
//	magic   4 bytes
//	length  4 bytes, of the data
//	sum     4 bytes, CRC-32C of the salt, what follows here, and the data
//	segment 8 bytes
//	life    8 bytes, which of the store's lives wrote it
//
// A file that is used again is overwritten from its start, so that an fsync need not
// note a new length. What is left of an earlier use has lower segments.
package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
)

const (
	fileMagic  = "hbjrnl1\n"
	saltLength = 8
	fileHeader = len(fileMagic) + saltLength
	entryMagic = 0x9e4a0ff1
	lifeLength = 8
	headLength = 4 + 4 + 4 + 8 + lifeLength
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fileNames are the two files in the store's folder.
var fileNames = [2]string{"bridge.journal-1", "bridge.journal-2"}

// Journal may be used by many goroutines; one of them writes.
type Journal struct {
	dir   string
	life  string
	fault func(op string) error

	mu      sync.Mutex // guards what follows
	files   [2]*file   // nil where there is none yet
	current int
	segment uint64 // the number of the one that is being written
	entries int    // in it
	begin   int64  // where it begins in its file
	durable uint64 // the last segment that is durable in the store
	buf     []byte
}

// file is one of the two.
type file struct {
	f    *os.File
	path string
	info os.FileInfo
	salt [saltLength]byte
	end  int64  // of what counts in it
	high int64  // of all that was written since it was made or wiped
	last uint64 // the newest segment in it
}

// New makes a journal in dir for a store that lives this life (8 bytes) and has all
// segments below the one named. Its files are made when they are needed. fault, where
// set, may fail a "write" or a "sync", for tests.
func New(dir, life string, segment uint64, fault func(op string) error) *Journal {
	return &Journal{dir: dir, life: life, segment: segment, durable: segment - 1, fault: fault, begin: int64(fileHeader)}
}

// Segment is the number of the segment that is being written.
func (j *Journal) Segment() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segment
}

// Pending is how many bytes that segment has so far.
func (j *Journal) Pending() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return max(j.size()-j.begin, 0)
}

// Size is how many bytes its file has: of that segment, and of those before it that stand
// in the same file.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size()
}

func (j *Journal) size() int64 {
	if f := j.files[j.current]; f != nil {
		return f.end
	}
	return 0
}

// Settled reports whether the store has everything durably.
func (j *Journal) Settled() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.settled()
}

func (j *Journal) settled() bool { return j.entries == 0 && j.durable+1 >= j.segment }

// Write adds an entry to the segment. It is durable when Write returns; after an error
// it is not in the journal.
func (j *Journal) Write(data []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := j.file()
	if err != nil {
		return err
	}
	b := append(j.buf[:0], make([]byte, headLength)...)
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b, entryMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(data)))
	binary.LittleEndian.PutUint64(b[12:], j.segment)
	copy(b[20:headLength], j.life)
	binary.LittleEndian.PutUint32(b[8:], sum(f.salt, b))
	if j.buf = b; cap(b) > maxKept {
		j.buf = nil
	}
	if err := j.put(f, b); err != nil {
		f.high = max(f.high, f.end+int64(len(b)))
		// The entry may have reached the disk. A head of zeros takes it back, unless
		// this write fails too: then a crash may bring back what was refused, which
		// the caller has to reckon with after any failed write.
		if _, zerr := f.f.WriteAt(make([]byte, headLength), f.end); zerr != nil {
			err = fmt.Errorf("%w (and taking it back: %w)", err, zerr)
		}
		return err
	}
	f.end += int64(len(b))
	f.high = max(f.high, f.end)
	f.last = j.segment
	j.entries++
	return nil
}

// maxKept is how large a buffer is kept for the next entry, in bytes.
const maxKept = 1 << 20

func (j *Journal) put(f *file, b []byte) error {
	if err := j.failing("write"); err != nil {
		return err
	}
	if _, err := f.f.WriteAt(b, f.end); err != nil {
		return fmt.Errorf("write into the journal: %w", err)
	}
	if err := j.failing("sync"); err != nil {
		return err
	}
	if err := syncData(f.f); err != nil {
		return fmt.Errorf("sync the journal: %w", err)
	}
	return nil
}

func (j *Journal) failing(op string) error {
	if j.fault == nil {
		return nil
	}
	return j.fault(op)
}

// sum is the check sum of an entry.
func sum(salt [saltLength]byte, entry []byte) uint32 {
	c := crc32.Update(0, castagnoli, salt[:])
	c = crc32.Update(c, castagnoli, entry[4:8])
	return crc32.Update(c, castagnoli, entry[12:])
}

// file returns the file that is written to, made where it is missing.
func (j *Journal) file() (*file, error) {
	if f := j.files[j.current]; f != nil {
		return f, nil
	}
	f, err := create(filepath.Join(j.dir, fileNames[j.current]))
	if err != nil {
		return nil, fmt.Errorf("make the journal: %w", err)
	}
	j.files[j.current] = f
	return f, nil
}

// create makes a file with its header, durably.
func create(path string) (_ *file, err error) {
	f := &file{path: path, end: int64(fileHeader)}
	if f.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.f.Close())
		}
	}()
	if _, err := rand.Read(f.salt[:]); err != nil {
		return nil, err
	}
	if _, err := f.f.Write(append([]byte(fileMagic), f.salt[:]...)); err != nil {
		return nil, err
	}
	if err := f.f.Sync(); err != nil {
		return nil, err
	}
	if f.info, err = f.f.Stat(); err != nil {
		return nil, err
	}
	return f, syncFolder(filepath.Dir(path))
}

// Filled ends the segment: the store has it all. The next one goes into the other file
// where all that this holds is durable in the store.
func (j *Journal) Filled() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segment++
	j.entries = 0
	other := j.files[1-j.current]
	if other == nil || other.last <= j.durable {
		j.current = 1 - j.current
		if other != nil {
			other.end = int64(fileHeader)
		}
	}
	j.begin = max(j.size(), int64(fileHeader))
}

// Durable says that the store has a segment, and all before it, durably.
func (j *Journal) Durable(segment uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.durable = max(j.durable, segment)
}

// Current reads back the entries of the segment that is being written.
func (j *Journal) Current() (entries [][]byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.files[j.current]
	if f == nil || j.entries == 0 {
		return nil, nil
	}
	b := make([]byte, f.end-j.begin)
	if _, err := f.f.ReadAt(b, j.begin); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	for len(b) > 0 {
		e, n, ok := parse(f.salt, b)
		if !ok {
			return nil, fmt.Errorf("%w: %s has changed under the program that writes it", ErrDamaged, f.path)
		}
		entries = append(entries, e.Data)
		b = b[n:]
	}
	return entries, nil
}

// Lost returns the path of a file that was removed, replaced or cut short by somebody
// else; empty where there is none.
func (j *Journal) Lost() (path string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.files[j.current]
	if f == nil {
		return ""
	}
	if info, err := os.Stat(f.path); err == nil && os.SameFile(info, f.info) && info.Size() >= f.end {
		return ""
	}
	return f.path
}

// errNotTaken refuses to let go of what the store does not have.
var errNotTaken = errors.New("journal: the store has not taken all of it over")

// Wipe overwrites the files with zeros where everything in them is durable in the store,
// and does nothing otherwise.
func (j *Journal) Wipe() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.settled() {
		return nil
	}
	zeros := make([]byte, 64<<10)
	for _, f := range j.files {
		if f == nil {
			continue
		}
		for at := int64(fileHeader); at < f.high; at += int64(len(zeros)) {
			if _, err := f.f.WriteAt(zeros[:min(int64(len(zeros)), f.high-at)], at); err != nil {
				return fmt.Errorf("wipe the journal: %w", err)
			}
		}
		f.end, f.high = int64(fileHeader), int64(fileHeader)
	}
	j.begin = int64(fileHeader)
	return nil
}

// Remove takes the files away. Everything in them must be durable in the store. The
// journal can be used again after that.
func (j *Journal) Remove() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.settled() {
		return errNotTaken
	}
	err := j.close()
	for _, name := range fileNames {
		if rerr := os.Remove(filepath.Join(j.dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	j.begin = int64(fileHeader)
	return err
}

// Close closes the files and leaves them where they are.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.close()
}

func (j *Journal) close() error {
	var errs []error
	for i, f := range j.files {
		if f != nil {
			errs = append(errs, f.f.Close())
			j.files[i] = nil
		}
	}
	return errors.Join(errs...)
}
