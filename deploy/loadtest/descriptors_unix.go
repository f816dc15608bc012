//go:build unix

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// keptDescriptors are for publishers, files and the runtime.
const keptDescriptors = 300

// checkDescriptors refuses more sessions than this process may open, and names the command that mends it.
// A server that loadtest starts has the same limit. Go has raised the soft limit to the hard one already.
func checkDescriptors(sessions int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("the limit of open files cannot be read: %w", err)
	}
	return enoughDescriptors(sessions, uint64(limit.Cur)) // some systems have it signed
}

func enoughDescriptors(sessions int, limit uint64) error {
	need := uint64(sessions + keptDescriptors)
	if need <= limit {
		return nil
	}
	most := "raise the limit"
	if limit > keptDescriptors {
		most = fmt.Sprintf("ask for --sessions %d at most", limit-keptDescriptors)
	}
	return fmt.Errorf("%d sessions need %d open files and the limit is %d: run \"ulimit -n %d\" in the shell before (as root where it is refused), or %s", sessions, need, limit, need, most)
}

// ownCPU is the CPU time that the load itself has used.
func ownCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
