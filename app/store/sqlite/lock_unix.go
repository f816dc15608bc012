//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder locks the folder itself; nil where its file system cannot do that. A
// *heldError where another process has it.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	switch held, err := tryLock(f); {
	case held:
		return f, nil
	case err != nil: // some network file systems lock files only
		return nil, f.Close()
	}
	return nil, closing(f, &heldError{dir, "another process, although its bridge.lock was removed"})
}

// tryLock takes the kernel's lock on an open file. It goes with the process,
// however that dies, so no stale lock can keep a restart out.
func tryLock(f *os.File) (held bool, err error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// unlock gives the lock back at once. Closing the file alone would not: a program that
// this process is just starting has a copy of the file until it runs.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
