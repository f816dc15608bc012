package bridge

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"hookbridge/app/wire"
)

// MaxPollWait bounds how long a poll may wait for something to come.
const MaxPollWait = 30 * time.Second

// transportPoll is what carries a poll's session, as Handshake.Transport names it.
const transportPoll = "poll"

// Polled is the answer to a poll.
type Polled struct {
	Cursor string // where to go on
	Frames [][]byte
}

// Poll is a session that lasts until it has been handed something, or until
// patience is over or ctx ends: the same cursor, order, gaps and limits as a
// socket's. Where the user has too many sessions, the oldest poll is answered at
// once; a poll never takes another transport's place.
// Errors: ErrDraining, ErrFull, ErrRevoked, *EndedError.
func (b *Bridge) Poll(ctx context.Context, id Identity, after string, patience time.Duration) (Polled, error) {
	c := &pollConn{begun: make(chan struct{}), come: make(chan struct{}), gone: make(chan struct{}), enough: make(chan struct{})}
	c.answerNow = sync.OnceFunc(func() { close(c.enough) })
	if !b.enter(c) {
		return Polled{}, ErrDraining
	}
	b.enterMu.Lock()
	delete(b.unauthenticated, c)
	b.enterMu.Unlock()
	begun := false
	defer func() {
		if !begun {
			b.running.Done()
		}
	}()
	if b.Full() {
		return Polled{}, ErrFull
	}
	s := b.newSession(c, id, Handshake{Transport: transportPoll, OneWay: true})
	s.refused = errors.Is(s.join(after), ErrRevoked)
	ended := make(chan struct{})
	begun = true
	go func() {
		defer close(ended)
		s.serve()
	}()
	// Even who does not want to wait wants what there is, and where it ends.
	select {
	case <-c.begun:
	case <-c.gone:
	case <-ctx.Done():
	}
	select {
	case <-c.come:
	case <-c.gone:
	case <-c.enough:
	case <-time.After(patience):
	case <-ctx.Done():
	}
	s.Close(wire.CloseNormal, "the poll was answered")
	<-ended
	if s.refused {
		return Polled{}, ErrRevoked
	}
	return c.answer()
}

// pollConn is the Conn of a poll: it keeps what a socket would be sent.
type pollConn struct {
	begun chan struct{} // closed when the first frames are here, with what was stored
	come  chan struct{} // closed at the first frame that a poll is for
	gone  chan struct{} // closed when the session has ended

	enough    chan struct{} // closed when the poll is to be answered with what there is
	answerNow func()        // closes it; ends the poll's patience

	appended Polled // since the last Write; the session's writer's

	mu     sync.Mutex // guards what follows
	polled Polled
	ended  *EndedError // why, where it was not our own doing
	wrote  bool
	closed bool
}

func (c *pollConn) answer() (Polled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.polled.Frames) == 0 && c.ended != nil {
		return Polled{}, c.ended
	}
	return c.polled, nil
}

// Read implements Conn: a poll has nothing to say.
func (c *pollConn) Read() (Kind, []byte, error) {
	<-c.gone
	return 0, nil, io.EOF
}

// AppendText implements Conn. It keeps what a poll answers with until Write sends it.
func (c *pollConn) AppendText(b []byte, f wire.Frame) []byte {
	frame := slices.Concat(f.Head, f.Tail)
	if len(f.Cursor) > 0 {
		c.appended.Cursor = string(f.Cursor)
	}
	switch f.Type {
	case wire.TypeEvent, wire.TypeGap, wire.TypeRecalled:
		c.appended.Frames = append(c.appended.Frames, frame)
	}
	return append(b, frame...)
}

// Park implements Conn.
func (c *pollConn) Park(Resumer) bool { return false }

// AppendPing implements Conn.
func (c *pollConn) AppendPing(b, _ []byte) []byte { return b }

// AppendPong implements Conn.
func (c *pollConn) AppendPong(b, _ []byte) []byte { return b }

// Write implements Conn.
func (c *pollConn) Write([]byte, time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return io.ErrClosedPipe
	}
	if c.appended.Cursor != "" {
		c.polled.Cursor = c.appended.Cursor
	}
	if len(c.polled.Frames) == 0 && len(c.appended.Frames) > 0 {
		close(c.come)
	}
	c.polled.Frames = append(c.polled.Frames, c.appended.Frames...)
	c.appended = Polled{}
	if !c.wrote {
		c.wrote = true
		close(c.begun)
	}
	return nil
}

// WriteClose implements Conn.
func (c *pollConn) WriteClose(code wire.CloseCode, reason string, _ time.Time) {
	c.mu.Lock()
	if !c.closed && code != wire.CloseNormal {
		c.ended = &EndedError{Code: code, Reason: reason}
	}
	c.mu.Unlock()
	c.Abort()
}

// Limit implements Conn.
func (c *pollConn) Limit(int) {}

// Abort implements Conn.
func (c *pollConn) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.gone)
	}
}

// ExpireWrite implements Conn: a write to memory never hangs.
func (c *pollConn) ExpireWrite(time.Time) {}

// Remote implements Conn.
func (c *pollConn) Remote() string { return "" }
