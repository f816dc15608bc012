package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hookbridge/app/bridge"
)

// dirLock keeps other processes out of a folder until it is closed.
type dirLock struct{ files []*os.File }

// Close lets others in.
func (l *dirLock) Close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, unlock(f), f.Close())
	}
	return errors.Join(errs...)
}

// lockDir makes this process the only one that works on dir, until the lock it
// returns is closed. SQLite's own locks would let a second process in, whose
// sequences and caches would then contradict ours. The folder itself is locked
// where the system can do that, since somebody may remove bridge.lock.
func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, "bridge.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	held, err := tryLock(f)
	if err == nil && held {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, closing(f, err))
	}
	if held {
		l := &dirLock{files: []*os.File{f}}
		folder, err := lockFolder(dir)
		if err != nil {
			return nil, closing(l, err)
		}
		if folder != nil {
			l.files = append(l.files, folder)
		}
		return l, nil
	}
	owner := "another process"
	if b, err := io.ReadAll(io.LimitReader(f, 32)); err == nil && len(b) > 0 {
		owner += " (pid " + strings.TrimSpace(string(b)) + ")"
	}
	return nil, closing(f, &heldError{dir, owner})
}

// heldError says who has the folder.
type heldError struct{ dir, owner string }

func (e *heldError) Error() string {
	return fmt.Sprintf("the data folder %s is in use by %s: stop that one first, or give this one a folder of its own", e.dir, e.owner)
}

// Unwrap makes it an ErrInUse for those who cannot use another folder.
func (e *heldError) Unwrap() error { return bridge.ErrInUse }

// closing closes c on the way out with err, which stays the one to report.
func closing(c io.Closer, err error) error {
	if cerr := c.Close(); cerr != nil {
		return fmt.Errorf("%w (and closing: %w)", err, cerr)
	}
	return err
}
