package walfile

import (
	"errors"
	"syscall"

	"github.com/ncruces/go-sqlite3"
)

// Full reports whether an error, of SQLite or of the operating system, means that a
// file could not grow.
func Full(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) || errors.Is(err, errQuota)
}

// orFull makes SQLite's own error of one that means that a file could not grow. The
// driver passes those of the operating system on as any other failed access.
func orFull(err error) error {
	if Full(err) {
		return sqlite3.FULL
	}
	return err
}
