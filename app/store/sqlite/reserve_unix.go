//go:build unix

package sqlite

import (
	"golang.org/x/sys/unix"
)

// diskSpace is how many bytes of dir's file system are free for this process, and
// how many there are; false where that cannot be told.
func diskSpace(dir string) (free, total int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), true
}
