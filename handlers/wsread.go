package handlers

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
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
)

// Read implements bridge.Conn. It blocks with few calls on the stack, since the stack
// of an idle session is most of what the session costs.
func (c *wsConn) Read() (bridge.Kind, []byte, error) {
	if c.payload != nil && c.begun.IsZero() {
		releasePayload(c.payload)
		c.payload = nil
	}
	c.control = nil // an idle session keeps no payload
	if c.over {
		return 0, nil, c.discard()
	}
	// Wait for the first byte here and not in the depth of the frame reader.
	if _, err := c.br.Peek(1); err != nil {
		return 0, nil, c.connError(err)
	}
	return c.frame()
}

// frame reads one frame. A deadline runs from the first byte of a message to its
// end, also while the peer is between two fragments.
//
//go:noinline
func (c *wsConn) frame() (bridge.Kind, []byte, error) {
	if c.begun.IsZero() {
		c.begun = time.Now()
		if err := c.nc.SetReadDeadline(c.begun.Add(c.messageTimeout)); err != nil {
			return 0, nil, err
		}
	}
	kind, payload, err := c.next()
	if err != nil {
		return 0, nil, c.connError(err)
	}
	if !c.over && c.rd.State.Fragmented() {
		return kind, payload, nil
	}
	c.begun = time.Time{}
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return 0, nil, err
	}
	return kind, payload, nil
}

func (c *wsConn) next() (bridge.Kind, []byte, error) {
	if err := c.checkLength(); err != nil {
		return 0, nil, err
	}
	inside := c.rd.State.Fragmented()
	h, err := c.rd.NextFrame()
	if err != nil {
		return 0, nil, err
	}
	switch {
	case h.OpCode == ws.OpBinary:
		c.over = true // it ends the connection, so its payload is of no use
		return bridge.KindBinary, nil, nil
	case !h.OpCode.IsControl():
		return c.text(h)
	case !inside: // one inside a message was read by intermediate
		if err := c.intermediate(h, &c.rd); err != nil {
			return 0, nil, err
		}
	}
	switch h.OpCode {
	case ws.OpPing:
		return bridge.KindPing, c.control, nil
	case ws.OpPong:
		return bridge.KindPong, c.control, nil
	}
	c.over = true // what comes after a close frame counts for nothing (RFC 6455 §5.5.1)
	c.peerLeft()
	return bridge.KindClose, c.control, checkClose(c.control)
}

var errLongLength = errors.New("a frame's length is not written in its shortest form")

// checkLength refuses a frame whose length is written with more bytes than it needs
// (RFC 6455 §5.2), which the frame reader does not check.
func (c *wsConn) checkLength() error {
	b, err := c.br.Peek(2)
	if err != nil {
		return err
	}
	switch b[1] & 0x7f {
	case 126:
		if b, err = c.br.Peek(4); err == nil && binary.BigEndian.Uint16(b[2:]) < 126 {
			return errLongLength
		}
	case 127:
		if b, err = c.br.Peek(10); err == nil && binary.BigEndian.Uint64(b[2:]) <= 0xffff {
			return errLongLength
		}
	}
	return err
}

// intermediate reads the payload of a control frame. The frame reader calls it itself
// for one that comes inside a fragmented message.
func (c *wsConn) intermediate(h ws.Header, r io.Reader) error {
	c.control = make([]byte, h.Length) // 125 bytes at most, which the library has checked
	_, err := io.ReadFull(r, c.control)
	return err
}

// text reads one frame of a text message. It returns KindText after the last one and
// KindFragment before. The buffer grows with what arrives, never with what a header
// announces.
func (c *wsConn) text(h ws.Header) (bridge.Kind, []byte, error) {
	if c.payload == nil {
		c.payload = payloadPool.Get().(*[]byte)
		*c.payload = (*c.payload)[:0]
	}
	b := *c.payload
	before := len(b)
	for left := int(h.Length); ; {
		if len(b) == cap(b) {
			size := max(512, 2*cap(b))
			if err := c.grows(size); err != nil {
				return 0, nil, err
			}
			b = append(make([]byte, 0, size), b...) // append alone would take more than was counted
		}
		n, err := c.rd.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*c.payload = b
		left -= n
		switch {
		case err == io.EOF:
			return bridge.KindText, b, nil
		case err != nil:
			return 0, nil, err
		case left > 0 || !h.Fin:
			late := c.begun.Add(c.messageTimeout + time.Duration(len(b))*time.Second/messageRate)
			if err := c.nc.SetReadDeadline(late); err != nil {
				return 0, nil, err
			}
			if err := c.evicted(); err != nil { // its deadline was overwritten just now
				return 0, nil, err
			}
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
func (c *wsConn) connError(err error) error {
	var protocol ws.ProtocolError
	switch {
	case errors.Is(err, bridge.ErrNotUTF8), errors.Is(err, bridge.ErrProtocol):
	case errors.Is(err, wsutil.ErrMessageTooLarge):
		err = bridge.ErrFrameTooLarge
	case errors.Is(err, wsutil.ErrInvalidUTF8):
		err = bridge.ErrNotUTF8
	case errors.As(err, &protocol), errors.Is(err, ws.ErrHeaderLengthMSB), errors.Is(err, errLongLength):
		err = bridge.ErrProtocol
	case errors.Is(err, errBodiesFull), errors.Is(err, errAddressBodies), c.evicted() != nil:
		err = bridge.ErrCrowded
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.begun.IsZero():
		err = bridge.ErrSlowMessage
	default:
		c.peerLeft()
		return err
	}
	c.over = true
	c.begun = time.Time{}
	return err
}

// discard reads and drops until the connection ends: unread bytes would cause a reset,
// in which our close frame could be lost.
func (c *wsConn) discard() error {
	err := c.nc.SetReadDeadline(time.Time{}) // a message's may still run
	if err == nil {
		_, err = io.Copy(io.Discard, c.br)
	}
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
