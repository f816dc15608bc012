package handlers

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	// messageTimeout is how long a message may take, from the first byte of its first
	// frame to the last byte of its last one. Without a limit a peer could hold memory
	// for half a message as long as it likes.
	messageTimeout = 10 * time.Second
	// messageRate, bytes a second: a message may take a second longer for each so many
	// bytes that have come, so that a large one can come over a slow link.
	messageRate = 4 << 10
	// readBufferBytes holds a small client frame whole, so that one system call reads it.
	readBufferBytes = 256
	// keepPayload is the largest payload buffer that goes back to the pool, bytes.
	keepPayload = 8 << 10
)

// frameReader is what reading takes: buffers, and the state of a message that has begun.
// While no message has, it goes back to a pool.
type frameReader struct {
	c       *wsConn
	early   []byte // read before the connection was ours
	br      *bufio.Reader
	rd      wsutil.Reader
	payload *[]byte   // the text message, as far as it has come
	control []byte    // the payload of the control frame read last
	begun   time.Time // when the current message began; zero between messages
	until   time.Time // when a read has to end; zero: never
	set     time.Time // the read deadline that the connection has
	now     bool      // a read does not wait
	nonblocking
}

var framePool = sync.Pool{New: func() any {
	r := new(frameReader)
	r.br = bufio.NewReaderSize(r, readBufferBytes)
	r.rd = wsutil.Reader{Source: r.br, State: ws.StateServerSide, CheckUTF8: true, OnIntermediate: r.intermediate}
	r.attempt = r.nonblocking.read
	return r
}}

var payloadPool = sync.Pool{New: func() any { return new([]byte) }}

// input is what the connection reads with.
func (c *wsConn) input() *frameReader {
	if c.in == nil {
		c.in = framePool.Get().(*frameReader)
		c.in.c = c
	}
	return c.in
}

// releaseInput gives back what the connection reads with; it is not busy.
func (c *wsConn) releaseInput() {
	if r := c.in; r != nil {
		c.in = nil
		r.release()
		r.c = nil
		framePool.Put(r)
	}
}

// release gives up what was read for the caller of Read.
func (r *frameReader) release() {
	if r.payload != nil && r.begun.IsZero() {
		releasePayload(r.payload)
		r.payload = nil
	}
	r.control = nil
}

// busy reports whether a message has begun, or more was read than one.
func (r *frameReader) busy() bool {
	return !r.begun.IsZero() || r.br.Buffered() > 0 || len(r.early) > 0
}

// arrived reports whether there is something for Read, without waiting for it.
func (r *frameReader) arrived() bool {
	r.now = true
	_, err := r.br.Peek(1)
	r.now = false
	return err != errNothing
}

// errNothing says that nothing can be read without waiting.
var errNothing = errors.New("there is nothing to read")

// Read implements io.Reader for br. A read that waits has the deadline of its message.
func (r *frameReader) Read(b []byte) (n int, err error) {
	switch {
	case len(r.early) > 0:
		n = copy(b, r.early)
		r.early = r.early[n:]
		return n, nil
	case r.now:
		n, err = r.readNow(b)
	default:
		if err := r.setDeadline(); err != nil {
			return 0, err
		}
		n, err = r.c.rw.Read(b)
	}
	r.c.tookAll(err == nil && n < len(b) || err == errNothing)
	return n, err
}

// setDeadline gives the connection the deadline that the next read is to have.
func (r *frameReader) setDeadline() error {
	if r.until.Equal(r.set) {
		return nil
	}
	if err := r.c.rw.SetReadDeadline(r.until); err != nil {
		return err
	}
	r.set = r.until
	return r.c.evicted() // whose deadline was overwritten just now
}

// Read implements bridge.Conn.
func (c *wsConn) Read() (bridge.Kind, []byte, error) {
	r := c.input()
	r.release()
	r.rd.MaxMessageSize = c.limit
	if c.over {
		return 0, nil, r.discard()
	}
	// Wait for the first byte here and not in the depth of the frame reader: while a
	// goroutine waits, it costs its stack.
	if _, err := r.br.Peek(1); err != nil {
		return 0, nil, r.connError(err)
	}
	return r.frame()
}

// frame reads one frame. A deadline runs from the first byte of a message to its
// end, also while the peer is between two fragments.
//
//go:noinline
func (r *frameReader) frame() (bridge.Kind, []byte, error) {
	if r.begun.IsZero() {
		r.begun = time.Now()
		r.until = r.begun.Add(r.c.sockets.messageTimeout)
	}
	kind, payload, err := r.next()
	if err != nil {
		return 0, nil, r.connError(err)
	}
	if !r.c.over && r.rd.State.Fragmented() {
		return kind, payload, nil
	}
	r.begun, r.until = time.Time{}, time.Time{}
	return kind, payload, r.setDeadline()
}

func (r *frameReader) next() (bridge.Kind, []byte, error) {
	if err := r.checkLength(); err != nil {
		return 0, nil, err
	}
	inside := r.rd.State.Fragmented()
	h, err := r.rd.NextFrame()
	if err != nil {
		return 0, nil, err
	}
	switch {
	case h.OpCode == ws.OpBinary:
		r.c.over = true // it ends the connection, so its payload is of no use
		return bridge.KindBinary, nil, nil
	case !h.OpCode.IsControl():
		return r.text(h)
	case !inside: // one inside a message was read by intermediate
		if err := r.intermediate(h, &r.rd); err != nil {
			return 0, nil, err
		}
	}
	switch h.OpCode {
	case ws.OpPing:
		return bridge.KindPing, r.control, nil
	case ws.OpPong:
		return bridge.KindPong, r.control, nil
	}
	r.c.over = true // what comes after a close frame counts for nothing (RFC 6455 §5.5.1)
	r.c.peerLeft()
	return bridge.KindClose, r.control, checkClose(r.control)
}

var errLongLength = errors.New("a frame's length is not written in its shortest form")

// checkLength refuses a frame whose length is written with more bytes than it needs
// (RFC 6455 §5.2), which the frame reader does not check.
func (r *frameReader) checkLength() error {
	b, err := r.br.Peek(2)
	if err != nil {
		return err
	}
	switch b[1] & 0x7f {
	case 126:
		if b, err = r.br.Peek(4); err == nil && binary.BigEndian.Uint16(b[2:]) < 126 {
			return errLongLength
		}
	case 127:
		if b, err = r.br.Peek(10); err == nil && binary.BigEndian.Uint64(b[2:]) <= 0xffff {
			return errLongLength
		}
	}
	return err
}

// intermediate reads the payload of a control frame. The frame reader calls it itself
// for one that comes inside a fragmented message.
func (r *frameReader) intermediate(h ws.Header, from io.Reader) error {
	r.control = make([]byte, h.Length) // 125 bytes at most, which the library has checked
	_, err := io.ReadFull(from, r.control)
	return err
}

// text reads one frame of a text message. It returns KindText after the last one and
// KindFragment before. The buffer grows with what arrives, never with what a header
// announces.
func (r *frameReader) text(h ws.Header) (bridge.Kind, []byte, error) {
	if r.payload == nil {
		r.payload = payloadPool.Get().(*[]byte)
		*r.payload = (*r.payload)[:0]
	}
	b := *r.payload
	before := len(b)
	for left := int(h.Length); ; {
		if len(b) == cap(b) {
			size := max(512, 2*cap(b))
			if err := r.c.grows(size); err != nil {
				return 0, nil, err
			}
			b = append(make([]byte, 0, size), b...) // append alone would take more than was counted
		}
		n, err := r.rd.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*r.payload = b
		left -= n
		switch {
		case err == io.EOF:
			return bridge.KindText, b, nil
		case err != nil:
			return 0, nil, err
		case left > 0 || !h.Fin:
			r.until = r.begun.Add(r.c.sockets.messageTimeout + time.Duration(len(b))*time.Second/messageRate)
			if left == 0 {
				return bridge.KindFragment, b[before:], nil
			}
		}
	}
}

// checkClose checks the payload of a close frame (RFC 6455 §5.5.1, §7.4).
func checkClose(p []byte) error {
	switch {
	case len(p) == 0:
		return nil
	case len(p) == 1 || !mayBeReceived(wire.CloseCode(binary.BigEndian.Uint16(p))):
		return bridge.ErrProtocol
	case !utf8.Valid(p[2:]):
		return bridge.ErrNotUTF8
	}
	return nil
}

// mayBeReceived reports whether a close frame may have this code: a registered one
// (1012 to 1014 came after the RFC), a library's or an app's.
func mayBeReceived(code wire.CloseCode) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// connError turns an error of the frame reader into one of bridge.Conn.
func (r *frameReader) connError(err error) error {
	var protocol ws.ProtocolError
	switch {
	case errors.Is(err, bridge.ErrNotUTF8), errors.Is(err, bridge.ErrProtocol):
	case errors.Is(err, wsutil.ErrMessageTooLarge):
		err = bridge.ErrFrameTooLarge
	case errors.Is(err, wsutil.ErrInvalidUTF8):
		err = bridge.ErrNotUTF8
	case errors.As(err, &protocol), errors.Is(err, ws.ErrHeaderLengthMSB), errors.Is(err, errLongLength):
		err = bridge.ErrProtocol
	case errors.Is(err, errBodiesFull), errors.Is(err, errAddressBodies), r.c.evicted() != nil:
		err = bridge.ErrCrowded
	case errors.Is(err, os.ErrDeadlineExceeded) && !r.begun.IsZero():
		err = bridge.ErrSlowMessage
	default:
		r.c.peerLeft()
		return err
	}
	r.c.over = true
	r.begun = time.Time{}
	return err
}

// discard reads and drops until the connection ends: unread bytes would cause a reset,
// in which our close frame could be lost.
func (r *frameReader) discard() error {
	r.until = time.Time{} // a message's may still run
	_, err := io.Copy(io.Discard, r.br)
	if err == nil {
		err = io.EOF
	}
	r.c.peerLeft()
	return err
}

func releasePayload(p *[]byte) {
	if cap(*p) <= keepPayload {
		payloadPool.Put(p)
	}
}
