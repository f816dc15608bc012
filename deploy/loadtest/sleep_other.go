//go:build !linux

package main

import "time"

// sleepUntil waits for a time of the ledger's.
func sleepUntil(due int64, l *ledger) {
	if wait := due - l.now(); wait > 0 {
		time.Sleep(time.Duration(wait))
	}
}
