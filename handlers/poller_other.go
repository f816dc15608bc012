//go:build !linux

package handlers

import (
	"hookbridge/app/bridge"
	"hookbridge/app/guard"
)

// poller is for Linux. Elsewhere each connection keeps a goroutine that blocks in Read.
type poller struct{}

func newPoller(*guard.Guard) *poller { return &poller{} }

func (*poller) close() {}

// Park implements bridge.Conn.
func (*wsConn) Park(bridge.Resumer) bool { return false }

func (*wsConn) unwatch()     {}
func (*wsConn) signal(bool)  {}
func (*wsConn) tookAll(bool) {}

type nonblocking struct{ attempt func(uintptr) bool }

func (*nonblocking) read(uintptr) bool { return true }

func (*frameReader) readNow([]byte) (int, error) { return 0, errNothing }
