//go:build !unix

package main

import (
	"errors"
	"time"
)

// checkDescriptors has nothing to check where open files have no limit.
func checkDescriptors(int) error { return nil }

func ownCPU() (time.Duration, error) { return 0, errors.ErrUnsupported }
