package handlers

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	// sendBufferBytes bounds the kernel's send buffer, behind which a slow peer would
	// not be noticed.
	sendBufferBytes = 64 << 10
)

// sockets is what all WebSockets of a server share.
type sockets struct {
	messageTimeout time.Duration // for one message; see messageTimeout
	poller         *poller
}

// wsConn is a bridge.Conn on an upgraded connection. It is detached from its request,
// of which nothing stays in memory. gobwas/ws reads and writes the frames. What reading
// needs (frameReader) is there only from the first byte of a message until the session
// has handled it, so that an idle session keeps little more than this struct.
type wsConn struct {
	nc      net.Conn // as it was accepted; its Close is counted
	rw      net.Conn // the TCP connection in it, for all else
	remote  string
	sockets *sockets

	// The reader's own.
	in      *frameReader // nil while nothing is being read
	limit   int64        // the largest message, bytes
	over    bool         // the peer broke a rule or has closed: no more frames are read
	drained bool         // the latest read took all there was
	alone   bool         // the poller does not watch it: Read has to wait
	resumer bridge.Resumer

	fd    int32         // its descriptor, once the poller watches it; guarded by the poller
	state atomic.Uint32 // what the poller and the reader tell each other

	unauthenticated atomic.Pointer[unauthenticatedFrames] // nil once it has shown a token

	wmu    sync.Mutex // one write at a time; guards closed
	closed bool       // a close frame was written

	goneMu sync.Mutex    // guards what follows
	isGone bool          // the peer has closed, or the connection is lost
	gone   chan struct{} // closed then; nil where nobody waits for it
}

var _ bridge.Conn = (*wsConn)(nil)

func newWSConn(nc net.Conn, remote string, s *sockets) *wsConn {
	nc, early := detach(nc)
	c := &wsConn{nc: nc, rw: nc, remote: remote, sockets: s}
	if counted, ok := nc.(*connection); ok {
		c.rw = counted.tcp()
	}
	if len(early) > 0 {
		c.input().early = early
	}
	return c
}

// detach takes fasthttp's wrapper off a hijacked connection, since it keeps the
// request's large read buffer. early is what that buffer holds, and those of other
// wrappers below it: bytes that the peer sent right behind its handshake.
func detach(nc net.Conn) (raw net.Conn, early []byte) {
	u, ok := nc.(interface{ UnsafeConn() net.Conn })
	if !ok {
		return nc, nil
	}
	raw = u.UnsafeConn()
	if t, ok := raw.(interface{ SetWriteBuffer(bytes int) error }); ok {
		// Failing means only that the kernel keeps its own size.
		_ = t.SetWriteBuffer(sendBufferBytes)
	}
	// A deadline in the past, so that reading takes what is buffered and does not block.
	if err := raw.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return raw, nil // it is closed, as the next read will find
	}
	b := make([]byte, 512)
	for {
		n, err := nc.Read(b)
		early = append(early, b[:n]...)
		if err != nil {
			break
		}
	}
	if err := raw.SetReadDeadline(time.Time{}); err != nil {
		return raw, nil
	}
	return raw, early
}

func (c *wsConn) Remote() string { return c.remote }

// Limit implements bridge.Conn.
func (c *wsConn) Limit(maxBytes int) { c.limit = int64(maxBytes) }

// peerLeft notes that the peer has closed, or that the connection is lost.
func (c *wsConn) peerLeft() {
	c.goneMu.Lock()
	defer c.goneMu.Unlock()
	if c.gone != nil && !c.isGone {
		close(c.gone)
	}
	c.isGone = true
}

// awaitPeer waits until the peer has closed, but not beyond the deadline.
func (c *wsConn) awaitPeer(deadline time.Time) {
	c.goneMu.Lock()
	if c.isGone {
		c.goneMu.Unlock()
		return
	}
	if c.gone == nil {
		c.gone = make(chan struct{})
	}
	gone := c.gone
	c.goneMu.Unlock()
	select {
	case <-gone:
	case <-time.After(time.Until(deadline)):
	}
}

// AppendText implements bridge.Conn.
func (c *wsConn) AppendText(b []byte, f wire.Frame) []byte {
	b = appendHeader(b, ws.OpText, len(f.Head)+len(f.Tail))
	return append(append(b, f.Head...), f.Tail...)
}

// AppendPing implements bridge.Conn.
func (c *wsConn) AppendPing(b, payload []byte) []byte {
	return append(appendHeader(b, ws.OpPing, len(payload)), payload...)
}

// AppendPong implements bridge.Conn.
func (c *wsConn) AppendPong(b, payload []byte) []byte {
	return append(appendHeader(b, ws.OpPong, len(payload)), payload...)
}

// appendHeader writes the header of an unfragmented, unmasked frame (RFC 6455
// §5.2), which the library can only write to an io.Writer.
func appendHeader(b []byte, op ws.OpCode, n int) []byte {
	b = append(b, 0x80|byte(op))
	switch {
	case n < 126:
		return append(b, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

// Write implements bridge.Conn.
func (c *wsConn) Write(frames []byte, deadline time.Time) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if err := c.rw.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.rw.Write(frames); err != nil {
		return err
	}
	return c.rw.SetWriteDeadline(time.Time{}) // TryWrite, which has none, fails after it
}

// ExpireWrite implements bridge.Conn.
func (c *wsConn) ExpireWrite(t time.Time) {
	// Failing means that the connection is gone, and the write with it.
	_ = c.rw.SetWriteDeadline(t)
}

// WriteClose implements bridge.Conn.
func (c *wsConn) WriteClose(code wire.CloseCode, reason string, deadline time.Time) {
	c.wmu.Lock()
	if c.closed {
		c.wmu.Unlock()
		return
	}
	c.closed = true
	body := ws.NewCloseFrameBody(ws.StatusCode(code), reason)
	frame := append(appendHeader(nil, ws.OpClose, len(body)), body...)
	err := c.rw.SetWriteDeadline(deadline)
	if err == nil {
		_, err = c.rw.Write(frame)
	}
	c.wmu.Unlock()
	if err == nil {
		// The peer answers with its own close frame and, being the client,
		// waits for us to end the TCP connection (RFC 6455 §7.1.1).
		c.awaitPeer(deadline)
	}
	c.Abort()
}

// Abort implements bridge.Conn.
func (c *wsConn) Abort() {
	c.unwatch()
	// Closing twice is an error that means nothing here.
	_ = c.nc.Close()
	c.signal(true)
	c.peerLeft()
}
