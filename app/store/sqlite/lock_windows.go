package sqlite

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFolder does nothing: an open file cannot be removed here.
func lockFolder(string) (*os.File, error) { return nil, nil }

// tryLock takes the kernel's lock on an open file. It goes with the process,
// however that dies, so no stale lock can keep a restart out. The locked byte
// lies far behind the text, which stays readable for whoever is refused.
func tryLock(f *os.File) (held bool, err error) {
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: 1 << 20})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, nil
	default:
		return false, err
	}
}

// unlock does nothing: closing the file gives the lock back.
func unlock(*os.File) error { return nil }
