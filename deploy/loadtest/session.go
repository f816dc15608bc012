package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"hookbridge/app/wire"
	"hookbridge/auth"
)

const (
	// handshakeTimeout is for connecting, the upgrade and the first frame.
	handshakeTimeout = 20 * time.Second
	// ackEvery is how often our clients ack at most.
	ackEvery = 200 * time.Millisecond
	// tokenLife is longer than any run.
	tokenLife = 7 * 24 * time.Hour
)

// Beginnings of frames, as the server writes them.
var (
	eventFrame     = []byte(`{"type":"` + wire.TypeEvent + `"`)
	gapFrame       = []byte(`{"type":"` + wire.TypeGap + `"`)
	connectedFrame = []byte(`{"type":"` + wire.TypeConnected + `"`)
	cursorMember   = []byte(`"cursor":"`)
)

// session is one WebSocket connection of one user. One goroutine reads it; there is no other, so that a
// load of thousands of sessions stays cheap beside the server that it measures.
type session struct {
	ledger   *ledger
	receiver *receiver
	acks     bool

	conn    net.Conn
	rd      *bufio.Reader
	buf     []byte
	ended   chan struct{} // closed when the reading has ended
	closing atomic.Bool   // closed by us
	err     error         // why the reading ended; read it after ended

	mu     sync.Mutex // guards what follows, and writes
	cursor []byte     // of the last event that was read
	ackDue *time.Timer
	unsent bool // an ack is due
}

// dialer opens sessions, from many loopback addresses where the server is on this machine: one address has
// too few ports for tens of thousands of connections to one server.
type dialer struct {
	url       string // ws:// or wss://
	jwtSecret string
	spread    bool
	acks      bool
	ledger    *ledger
}

// token is a user's token.
func (d *dialer) token(user string) (string, error) {
	now := time.Now()
	return auth.SignToken(d.jwtSecret, auth.Claims{User: user, IssuedAt: now, Expires: now.Add(tokenLife)})
}

// from is the address that the session of a number comes from; nil leaves it to the system.
func (d *dialer) from(i int) net.Addr {
	if !d.spread {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}
}

// dial opens the session of user number i, resumes it after the cursor where there is one, and returns when
// the server has said that it is connected. The caller starts read.
func (d *dialer) dial(ctx context.Context, i int, r *receiver, after []byte) (*session, error) {
	token, err := d.token(userName(i))
	if err != nil {
		return nil, err
	}
	dial := net.Dialer{LocalAddr: d.from(i)}
	up := ws.Dialer{Timeout: handshakeTimeout, ReadBufferSize: 1024, WriteBufferSize: 1024, NetDial: dial.DialContext,
		Protocols: []string{wire.Subprotocol}, Header: ws.HandshakeHeaderHTTP(http.Header{"Authorization": {"Bearer " + token}})}
	conn, rd, _, err := up.Dial(ctx, d.url)
	if err != nil {
		return nil, refusal(i, err)
	}
	if rd == nil {
		rd = bufio.NewReaderSize(conn, 1024)
	}
	s := &session{ledger: d.ledger, receiver: r, acks: d.acks, conn: conn, rd: rd, ended: make(chan struct{}), cursor: after}
	if err := s.greet(); err != nil {
		return nil, errors.Join(refusal(i, err), conn.Close())
	}
	return s, nil
}

// greet sends the first frame and waits for the answer.
func (s *session) greet() error {
	if err := s.conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	first := []byte(`{"type":"` + wire.TypeConnect + `"}`)
	if len(s.cursor) > 0 {
		first = fmt.Appendf(nil, `{"type":%q,"after":%q}`, wire.TypeConnect, s.cursor)
	}
	if err := s.write(ws.OpText, first); err != nil {
		return err
	}
	frame, err := s.next()
	if err != nil {
		return err
	}
	if bytes.HasPrefix(frame, gapFrame) { // announced before all else
		s.ledger.gaps.Add(1)
		if frame, err = s.next(); err != nil {
			return err
		}
	}
	if !bytes.HasPrefix(frame, connectedFrame) {
		return errors.New("the server's first frame is not that it is connected; is --url a bridge?")
	}
	s.keepCursor(frame)
	return s.conn.SetDeadline(time.Time{})
}

// refusal says what to mend where a session was refused.
func refusal(i int, err error) error {
	hint := ""
	var status ws.StatusError
	var closed *closedError
	switch {
	case errors.As(err, &status) && status == http.StatusUnauthorized, errors.As(err, &closed) && closed.code == wire.CloseUnauthorized:
		hint = "; --jwt-secret must be the server's BRIDGE_JWT_SECRET"
	case errors.As(err, &status) && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable),
		errors.As(err, &closed) && closed.code == wire.CloseOverloaded:
		hint = "; the server takes fewer: raise its BRIDGE_MAX_SESSIONS and BRIDGE_MAX_UNAUTHENTICATED_PER_ADDRESS, set its BRIDGE_CONNECT_RATE to 0, and raise its limit of open files"
	}
	return fmt.Errorf("session %d could not connect: %w%s", i+1, err, hint)
}

// read reads until the connection ends.
func (s *session) read() {
	defer close(s.ended)
	for {
		frame, err := s.next()
		if err != nil {
			s.err = err
			return
		}
		switch {
		case bytes.HasPrefix(frame, eventFrame):
			s.ledger.received(s.receiver, frame)
			s.keepCursor(frame)
			s.owe()
		case bytes.HasPrefix(frame, gapFrame):
			s.ledger.gaps.Add(1)
			s.keepCursor(frame)
		}
	}
}

// next is the next message, valid until it is called again. Pings are answered.
func (s *session) next() ([]byte, error) {
	s.buf = s.buf[:0]
	for {
		h, err := ws.ReadHeader(s.rd)
		if err != nil {
			return nil, err
		}
		had, have := len(s.buf), len(s.buf)+int(h.Length)
		if cap(s.buf) < have {
			s.buf = append(make([]byte, 0, have), s.buf...)
		}
		part := s.buf[had:have]
		if _, err := io.ReadFull(s.rd, part); err != nil {
			return nil, err
		}
		switch h.OpCode {
		case ws.OpPing:
			err = s.write(ws.OpPong, part)
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(part)
			err = &closedError{wire.CloseCode(code), reason}
		case ws.OpText, ws.OpContinuation:
			s.buf = s.buf[:have]
			if h.Fin {
				return s.buf, nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// closedError is that the server has closed the session.
type closedError struct {
	code   wire.CloseCode
	reason string
}

func (e *closedError) Error() string {
	return fmt.Sprintf("closed by the server: %d %s", e.code, e.reason)
}

// keepCursor remembers the place of a frame.
func (s *session) keepCursor(frame []byte) {
	_, after, ok := bytes.Cut(frame, cursorMember)
	if end := bytes.IndexByte(after, '"'); ok && end >= 0 {
		s.mu.Lock()
		s.cursor = append(s.cursor[:0], after[:end]...)
		s.mu.Unlock()
	}
}

// owe has what was read acked within ackEvery, together with what comes until then.
func (s *session) owe() {
	if !s.acks {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.unsent:
	case s.ackDue == nil:
		s.unsent, s.ackDue = true, time.AfterFunc(ackEvery, s.ack)
	default:
		s.unsent = true
		s.ackDue.Reset(ackEvery)
	}
}

func (s *session) ack() {
	s.mu.Lock()
	s.unsent = false
	frame := make([]byte, 0, 96)
	frame = append(append(append(frame, `{"type":"`+wire.TypeAck+`","cursor":"`...), s.cursor...), `"}`...)
	s.mu.Unlock()
	_ = s.write(ws.OpText, frame) // where the connection is lost, reading ends too, and says so
}

// write sends one frame and may overwrite p.
func (s *session) write(op ws.OpCode, p []byte) error {
	b, err := ws.CompileFrame(ws.MaskFrameInPlace(ws.NewFrame(op, true, p)))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.conn.Write(b)
	return err
}

// close ends the session and returns the place up to which it was read.
func (s *session) close() (cursor []byte) {
	s.closing.Store(true)
	_ = s.conn.Close() // it may have been lost before
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ackDue != nil {
		s.ackDue.Stop()
	}
	return s.cursor
}

func userName(i int) string { return fmt.Sprintf("u%d", i) }
