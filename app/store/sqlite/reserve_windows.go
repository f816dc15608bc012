package sqlite

import "golang.org/x/sys/windows"

// diskSpace is how many bytes of dir's file system are free for this process, and
// how many there are; false where that cannot be told.
func diskSpace(dir string) (free, total int64, ok bool) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, false
	}
	var f, t uint64
	if err := windows.GetDiskFreeSpaceEx(name, &f, &t, nil); err != nil {
		return 0, 0, false
	}
	return int64(f), int64(t), true
}
