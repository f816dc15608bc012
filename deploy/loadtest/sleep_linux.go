package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil waits for a time of the ledger's. The kernel's own sleep wakes within some 60 µs, where a Go
// timer on a busy machine may be a millisecond late; that would count as latency.
func sleepUntil(due int64, l *ledger) {
	for wait := due - l.now(); wait > 0; wait = due - l.now() {
		ts := unix.NsecToTimespec(wait)
		if err := unix.Nanosleep(&ts, nil); err != nil && err != unix.EINTR { // the runtime's signals wake it early
			time.Sleep(time.Duration(wait))
		}
	}
}
