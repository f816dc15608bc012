//go:build unix

package server

import "golang.org/x/sys/unix"

// openFiles raises the soft limit of open files to the hard one and returns what
// it is then; ok is false where there is none. Go's runtime does the same when it
// starts, but for one file, and says nothing where it fails.
func openFiles() (limit int, ok bool) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0, false
	}
	if soft, hard := uint64(l.Cur), uint64(l.Max); soft < hard {
		raised := l
		raised.Cur = l.Max
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil { // else the soft limit is what there is
			l = raised
		}
	}
	if uint64(l.Cur) > maxOpenFiles {
		return 0, false
	}
	return int(l.Cur), true
}
