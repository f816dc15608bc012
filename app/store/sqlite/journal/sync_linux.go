package journal

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes what was written durable, without the times of the file, which would
// cost another write of the file system's own.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
