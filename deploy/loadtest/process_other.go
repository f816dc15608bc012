//go:build !linux

package main

import "errors"

// processes are the server's. What they use is read on Linux alone.
type processes []int

// readable reports whether CPU and memory of processes can be read on this system.
func (processes) readable() bool { return false }

// why says why nothing can be read.
func (processes) why() string {
	return "the server's CPU and memory are left out: they are read from Linux's /proc, which this system does not have"
}

func (processes) usage() (usage, error) { return usage{}, errors.ErrUnsupported }
