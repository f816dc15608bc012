package handlers

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	// readBufferBytes holds a small client frame whole, so that one system call reads
	// it. Every idle session keeps such a buffer, so it is small.
	readBufferBytes = 256
	// sendBufferBytes bounds the kernel's send buffer, behind which a slow peer would
	// not be noticed.
	sendBufferBytes = 64 << 10
	// keepPayload is the largest payload buffer that goes back to the pool, bytes.
	keepPayload = 8 << 10
)

// wsConn is a bridge.Conn on an upgraded connection. It is detached from its request,
// of which nothing stays in memory. gobwas/ws reads and writes the frames, because it
// needs no buffers of its own while a session is idle.
type wsConn struct {
	nc     net.Conn
	remote string

	messageTimeout time.Duration

	// The reader's own.
	br      *bufio.Reader
	rd      wsutil.Reader
	payload *[]byte   // the text message, as far as it has come
	control []byte    // the payload of the control frame read last
	begun   time.Time // when the current message began; zero between messages
	over    bool      // the peer broke a rule or has closed: no more frames are read

	unauthenticated atomic.Pointer[unauthenticatedFrames] // nil once it has shown a token

	wmu    sync.Mutex // one write at a time; guards closed
	closed bool       // a close frame was written

	peerOnce sync.Once
	peerGone chan struct{} // the peer has closed, or the connection is lost
}

var _ bridge.Conn = (*wsConn)(nil)

var payloadPool = sync.Pool{New: func() any { return new([]byte) }}

func newWSConn(nc net.Conn, remote string, messageTimeout time.Duration) *wsConn {
	nc, early := detach(nc)
	var from io.Reader = nc
	if len(early) > 0 {
		from = io.MultiReader(bytes.NewReader(early), nc)
	}
	c := &wsConn{nc: nc, remote: remote, messageTimeout: messageTimeout, br: bufio.NewReaderSize(from, readBufferBytes), peerGone: make(chan struct{})}
	c.rd = wsutil.Reader{Source: c.br, State: ws.StateServerSide, CheckUTF8: true, OnIntermediate: c.intermediate}
	return c
}

// detach takes fasthttp's wrapper off a hijacked connection, since it keeps the
// request's large read buffer. early is what that buffer holds: bytes that the peer
// sent right behind its handshake.
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
func (c *wsConn) Limit(maxBytes int) { c.rd.MaxMessageSize = int64(maxBytes) }

func (c *wsConn) peerLeft() { c.peerOnce.Do(func() { close(c.peerGone) }) }

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
	if err := c.nc.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := c.nc.Write(frames)
	return err
}

// ExpireWrite implements bridge.Conn.
func (c *wsConn) ExpireWrite(t time.Time) {
	// Failing means that the connection is gone, and the write with it.
	_ = c.nc.SetWriteDeadline(t)
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
	err := c.nc.SetWriteDeadline(deadline)
	if err == nil {
		_, err = c.nc.Write(frame)
	}
	c.wmu.Unlock()
	if err == nil {
		// The peer answers with its own close frame and, being the client,
		// waits for us to end the TCP connection (RFC 6455 §7.1.1).
		select {
		case <-c.peerGone:
		case <-time.After(time.Until(deadline)):
		}
	}
	c.Abort()
}

// Abort implements bridge.Conn.
func (c *wsConn) Abort() {
	// Closing twice is an error that means nothing here.
	_ = c.nc.Close()
	c.peerLeft()
}
