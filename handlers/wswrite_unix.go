//go:build unix

package handlers

import (
	"errors"
	"net"
	"os"
	"syscall"

	"hookbridge/app/bridge"
)

var _ bridge.TryWriter = (*wsConn)(nil)

// TryWrite implements bridge.TryWriter, with one system call and without an allocation.
// The callback runs while the connection is kept from being closed, so that its
// descriptor is its own.
func (c *wsConn) TryWrite(frames []byte) (n int, err error) {
	t, ok := c.rw.(*net.TCPConn) // the type, for the compiler to keep what follows on the stack
	if !ok || !c.wmu.TryLock() {
		return 0, nil
	}
	defer c.wmu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Write(func(fd uintptr) (done bool) {
		for {
			if n, failed = syscall.Write(int(fd), frames); failed != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // what ExpireWrite has left
		return 0, nil
	case err != nil:
		return 0, err
	case failed == syscall.EAGAIN:
		return 0, nil
	case failed != nil:
		return 0, os.NewSyscallError("write", failed)
	}
	return n, nil
}
