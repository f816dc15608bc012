package handlers

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	// readBufferBytes holds a small client frame whole, so that one system
	// call reads it. It is kept by every idle session: small on purpose.
	readBufferBytes = 256
	// sendBufferBytes bounds what the kernel hides of a slow peer.
	sendBufferBytes = 64 << 10
	// messageTimeout is how long a message may take from its header to its end.
	messageTimeout = 10 * time.Second
	// maxInside bounds control frames inside one fragmented message.
	maxInside = 16
	// keepPayload is the largest payload buffer that waits in the pool.
	keepPayload = 8 << 10
)

// conn is a bridge.Conn on a connection that was upgraded and detached from its
// request: nothing of the request stays in memory with it. Frames are read and
// written by gobwas/ws, which needs no buffers of its own while a session waits.
type conn struct {
	nc     net.Conn
	remote string

	// The reader's own.
	br      *bufio.Reader
	rd      wsutil.Reader
	payload *[]byte
	inside  []control // control frames that came inside a fragmented message
	failed  bool      // a rule was broken: what follows cannot be read as frames

	wmu    sync.Mutex // one write at a time; guards closed
	closed bool       // a close frame was written

	peerOnce sync.Once
	peerGone chan struct{} // the peer has closed, or the connection is lost
}

type control struct {
	kind    bridge.Kind
	payload []byte
}

var _ bridge.Conn = (*conn)(nil)

var payloadPool = sync.Pool{New: func() any { return new([]byte) }}

func newConn(nc net.Conn, remote string) *conn {
	nc, early := detach(nc)
	var from io.Reader = nc
	if len(early) > 0 {
		from = io.MultiReader(bytes.NewReader(early), nc)
	}
	c := &conn{nc: nc, remote: remote, br: bufio.NewReaderSize(from, readBufferBytes), peerGone: make(chan struct{})}
	c.rd = wsutil.Reader{Source: c.br, State: ws.StateServerSide, CheckUTF8: true, OnIntermediate: c.intermediate}
	return c
}

// detach takes off fasthttp's wrapper of a hijacked connection, which keeps the
// request's large read buffer, and with it what the peer has sent together with
// its handshake.
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
	// In the past, so that only what is in the buffer is read, and nothing waited for.
	if err := raw.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return raw, nil // it is closed, which whoever reads from it will find
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

func (c *conn) Remote() string { return c.remote }

func (c *conn) Limit(maxBytes int) {
	c.rd.MaxMessageSize = int64(maxBytes)
}

// Read implements bridge.Conn. It is shallow where it blocks: the stack of an
// idle session is most of what the session costs.
func (c *conn) Read() (bridge.Kind, []byte, error) {
	if c.payload != nil {
		releasePayload(c.payload)
		c.payload = nil
	}
	if len(c.inside) > 0 {
		next := c.inside[0]
		c.inside = c.inside[1:]
		return next.kind, next.payload, nil
	}
	if c.failed {
		return 0, nil, c.discard()
	}
	// Wait for the first byte here and not in the depth of the frame reader.
	if _, err := c.br.Peek(1); err != nil {
		c.peerLeft()
		return 0, nil, err
	}
	return c.frame()
}

//go:noinline
func (c *conn) frame() (bridge.Kind, []byte, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(messageTimeout)); err != nil {
		return 0, nil, err
	}
	kind, payload, err := c.message()
	if err != nil {
		return 0, nil, c.judge(err)
	}
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return 0, nil, err
	}
	if kind == bridge.KindClose {
		c.peerLeft()
	}
	return kind, payload, nil
}

func (c *conn) message() (bridge.Kind, []byte, error) {
	h, err := c.rd.NextFrame()
	if err != nil {
		return 0, nil, err
	}
	switch h.OpCode {
	case ws.OpText:
		return c.text()
	case ws.OpBinary:
		if err := c.rd.Discard(); err != nil {
			return 0, nil, err
		}
		return bridge.KindBinary, nil, nil
	}
	p, err := io.ReadAll(&c.rd) // control frames carry 125 bytes at most; the library has checked
	if err != nil {
		return 0, nil, err
	}
	return kindOf(h.OpCode), p, nil
}

func kindOf(op ws.OpCode) bridge.Kind {
	switch op {
	case ws.OpPing:
		return bridge.KindPing
	case ws.OpPong:
		return bridge.KindPong
	}
	return bridge.KindClose
}

// text reads a message that may come in fragments. The buffer grows with what
// arrives, never with what a header announces.
func (c *conn) text() (bridge.Kind, []byte, error) {
	c.payload = payloadPool.Get().(*[]byte)
	b := (*c.payload)[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, make([]byte, max(512, cap(b)))...)[:len(b)]
		}
		n, err := c.rd.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*c.payload = b
		if err == io.EOF {
			return bridge.KindText, b, nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

var errTooManyControls = errors.New("too many control frames inside a message")

// intermediate keeps a control frame that came inside a fragmented message.
func (c *conn) intermediate(h ws.Header, r io.Reader) error {
	if len(c.inside) >= maxInside {
		return errTooManyControls
	}
	p, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.inside = append(c.inside, control{kindOf(h.OpCode), p})
	if h.OpCode == ws.OpClose {
		c.peerLeft()
	}
	return nil
}

// judge turns what the frame reader says into the port's errors.
func (c *conn) judge(err error) error {
	var protocol ws.ProtocolError
	switch {
	case errors.Is(err, wsutil.ErrMessageTooLarge), errors.Is(err, wsutil.ErrFrameTooLarge), errors.Is(err, ws.ErrHeaderLengthUnexpected):
		c.failed = true
		return bridge.ErrFrameTooLarge
	case errors.Is(err, wsutil.ErrInvalidUTF8):
		c.failed = true
		return bridge.ErrNotUTF8
	case errors.As(err, &protocol), errors.Is(err, errTooManyControls), errors.Is(err, ws.ErrHeaderLengthMSB):
		c.failed = true
		return bridge.ErrProtocol
	}
	c.peerLeft()
	return err
}

// discard reads on without understanding, so that what we say last is not lost
// to a reset that unread bytes would cause. It ends when the connection does.
func (c *conn) discard() error {
	_, err := io.Copy(io.Discard, c.br)
	if err == nil {
		err = io.EOF
	}
	c.peerLeft()
	return err
}

func releasePayload(p *[]byte) {
	if cap(*p) <= keepPayload {
		payloadPool.Put(p)
	}
}

func (c *conn) peerLeft() { c.peerOnce.Do(func() { close(c.peerGone) }) }

// AppendText implements bridge.Conn.
func (c *conn) AppendText(b []byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b = appendHeader(b, ws.OpText, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// AppendPing implements bridge.Conn.
func (c *conn) AppendPing(b, payload []byte) []byte {
	return append(appendHeader(b, ws.OpPing, len(payload)), payload...)
}

// AppendPong implements bridge.Conn.
func (c *conn) AppendPong(b, payload []byte) []byte {
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
func (c *conn) Write(frames []byte, deadline time.Time) error {
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
func (c *conn) ExpireWrite(t time.Time) {
	// Failing means that the connection is gone, and the write with it.
	_ = c.nc.SetWriteDeadline(t)
}

// WriteClose implements bridge.Conn.
func (c *conn) WriteClose(code wire.CloseCode, reason string, deadline time.Time) {
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
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		select {
		case <-c.peerGone:
		case <-timer.C:
		}
	}
	c.Abort()
}

// Abort implements bridge.Conn.
func (c *conn) Abort() {
	// Closing twice is an error that means nothing here.
	_ = c.nc.Close()
	c.peerLeft()
}
