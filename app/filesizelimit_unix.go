//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// A limit on file sizes fails a write, like a full disk, and does not end the process.
func init() { signal.Ignore(syscall.SIGXFSZ) }
