package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/journal"
	"hookbridge/app/store/sqlite/walfile"
)

// errDamaged is wrapped around what is wrong with the files of a store. From then
// on the store takes nothing, until an operator has repaired the files and started
// the program again.
var errDamaged = fmt.Errorf("%w: the data folder is damaged", bridge.ErrUnavailable)

// checkFiles refuses a folder whose files do not belong together, which SQLite
// itself would take for an empty store and begin anew.
func checkFiles(dir string) error {
	path := filepath.Join(dir, fileName)
	size, err := sizeOf(path)
	if err != nil {
		return err
	}
	log, err := sizeOf(path + "-wal")
	if err != nil {
		return err
	}
	kept, err := journal.Present(dir)
	if err != nil {
		return err
	}
	switch {
	case size < 0 && log > 0:
		return fmt.Errorf("%s is missing beside its write-ahead log %s-wal, which holds messages: put the file back, or a backup of both, or move the log away to begin with an empty store", path, path)
	case size < 0 && kept != "":
		return fmt.Errorf("%s is missing beside the journal %s, which holds messages: put the file back, or a backup of both, or move the journal away to begin with an empty store", path, kept)
	case size == 0 && log <= 0:
		return fmt.Errorf("%s is empty (0 bytes): put a backup in its place, or remove it to begin with an empty store", path)
	case size == 0:
		return fmt.Errorf("%s is empty (0 bytes) beside its write-ahead log: put a backup of both in their place, or move both away to begin with an empty store", path)
	}
	return nil
}

// sizeOf is a file's size in bytes; -1 where there is none.
func sizeOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at the data folder: %w", err)
	}
	return info.Size(), nil
}

// checkPages reads the whole file and finds pages that hold something else than
// what SQLite wrote there: the answer of PRAGMA quick_check
// (https://sqlite.org/pragma.html#pragma_quick_check).
func checkPages(c *sqlite3.Conn, path string) error {
	s, _, err := c.Prepare("PRAGMA quick_check(1)")
	if err != nil {
		return pageFault(path, err)
	}
	fault := ""
	for s.Step() {
		if answer := s.ColumnText(0); answer != "ok" {
			fault = strings.Join(strings.Fields(strings.TrimPrefix(answer, "*** in database main ***")), " ")
		}
	}
	err = firstOf(s.Err(), s.Close())
	if err == nil && fault != "" {
		err = errors.New(fault)
	}
	return pageFault(path, err)
}

func pageFault(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s is damaged: put a backup in its place, or what `sqlite3 %s .recover` saves of it: %w", path, path, err)
}

// corrupt reports whether SQLite says that a page is not what it should be.
func corrupt(err error) bool {
	return errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB)
}

// watched are the main file and its log, as they were when the store opened them.
// A file that was unlinked or replaced takes every write without an error, and
// all of it is gone with the process. One that was cut short takes them, too.
type watched struct {
	vfs   *walfile.VFS
	paths []string
	infos []os.FileInfo
}

// watch begins to look after the main file at path.
func watch(v *walfile.VFS, path string) (*watched, error) {
	f := &watched{vfs: v, paths: []string{path, path + "-wal"}}
	for _, p := range f.paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("look at the data folder: %w", err)
		}
		f.infos = append(f.infos, info)
	}
	return f, nil
}

// moved returns an error that names the file which was removed, replaced or cut. It
// is called after each commit's fsync, before the callers get their answers.
func (f *watched) moved() error {
	for i, p := range f.paths {
		length, end := f.vfs.Length(), f.vfs.LogEnd()
		info, err := os.Stat(p)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR): // the folder is a file now
			return fmt.Errorf("%w: %s was removed while the program runs: stop it, put the file back from a backup, and start again", errDamaged, p)
		case err == nil && !os.SameFile(info, f.infos[i]):
			return fmt.Errorf("%w: %s was replaced while the program runs: stop it before you restore a backup, then start again", errDamaged, p)
		case err == nil && i == 0 && info.Size() < length && f.vfs.Length() == length:
			return cutShort(p)
		case err == nil && i == 1 && info.Size() < end && f.vfs.LogEnd() == end:
			return cutShort(p)
		}
	}
	return nil
}

// cut returns an error where a commit failed because the log was cut short.
func (f *watched) cut() error {
	if !f.vfs.LogCut() {
		return nil
	}
	return cutShort(f.paths[1])
}

func cutShort(path string) error {
	return fmt.Errorf("%w: %s was cut short while the program runs: stop it, put a backup in its place, and start again", errDamaged, path)
}
