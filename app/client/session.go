package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/wire"
)

const (
	// greetTimeout ends a connection whose "connected" does not come.
	greetTimeout = 15 * time.Second
	// silenceTimeout ends a connection on which nothing came, no ping either,
	// where the bridge has not said how often it pings.
	silenceTimeout = 90 * time.Second
	// closeTimeout is how long the bridge has to answer a close frame.
	closeTimeout = time.Second
)

// session is one connection of a Subscriber. serve's goroutine owns it and
// writes; another one reads, and answers pings.
type session struct {
	*Subscriber
	conn   *conn
	frames chan []byte   // what was read
	lost   chan error    // how the reading ended
	gone   chan struct{} // closed when serve takes no more frames

	ackDue    *time.Timer
	unacked   bool // an ack of all up to the cursor is due
	connected bool
	advice    time.Duration // of a reconnect frame; negative without one
}

func newSession(s *Subscriber, c *conn) *session {
	n := &session{Subscriber: s, conn: c, frames: make(chan []byte), lost: make(chan error, 1), gone: make(chan struct{}),
		ackDue: time.NewTimer(time.Hour), advice: -1}
	n.ackDue.Stop()
	return n
}

// serve handles frames until the connection ends, ctx ends, or something fails that a
// new connection would not mend.
func (s *session) serve(ctx context.Context) ending {
	defer close(s.gone)
	defer s.ackDue.Stop()
	go func() { s.lost <- s.read() }()
	if s.o.Plain {
		s.connected = true
		s.o.OnNotice(Connected{})
	} else if err := s.write(clientFrame{Type: wire.TypeConnect, After: s.cursor}); err != nil {
		return s.broken(err)
	}
	for {
		select {
		case b := <-s.frames:
			if err := s.take(ctx, b); err != nil {
				return s.leave(ending{fatal: err})
			}
		case <-s.ackDue.C:
			if e := s.ack(); e != nil {
				return *e
			}
		case err := <-s.lost:
			return s.ended(err)
		case <-ctx.Done():
			if e := s.ack(); e != nil {
				return *e
			}
			return s.leave(ending{code: wire.CloseNormal})
		}
	}
}

// read passes each message to serve until the connection ends, and returns why it did.
func (s *session) read() error {
	for {
		b, err := s.conn.read()
		if err != nil {
			return err
		}
		select {
		case s.frames <- b:
		case <-s.gone:
			return nil
		}
	}
}

// take handles one frame. Its error ends Run: going on would lose events.
func (s *session) take(ctx context.Context, b []byte) error {
	if s.o.Plain {
		e, refused, err := parsePlain(b)
		switch {
		case err != nil:
			return err
		case refused != nil:
			s.o.OnNotice(Refused{*refused})
			return nil
		}
		return s.handle(ctx, e)
	}
	var f struct {
		Type    string          `json:"type"`
		Cursor  string          `json:"cursor"`
		After   string          `json:"after"`
		From    string          `json:"from"`
		Replay  bool            `json:"replay"`
		Event   json.RawMessage `json:"event"`
		User    string          `json:"user"`
		Session string          `json:"session"`
		Resumed bool            `json:"resumed"`
		Pending int             `json:"pending"`
		PingMs  int64           `json:"pingMs"`
		InMs    int64           `json:"inMs"`
		AfterMs int64           `json:"afterMs"`
		Reason  string          `json:"reason"`
		ID      string          `json:"id"`
		Problem wire.Problem    `json:"problem"`
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Type == "" {
		return errors.New("the bridge sent what is not a frame of " + wire.Subprotocol)
	}
	switch f.Type {
	case wire.TypeConnected:
		if s.user != "" && f.User != s.user { // as the bridge has it for a refresh
			return &CloseError{wire.CloseForbidden, "the token is of another user than the one before"}
		}
		s.user = f.User
		s.connected = true
		patience := silenceTimeout
		if f.PingMs > 0 {
			patience = 3 * time.Duration(f.PingMs) * time.Millisecond
		}
		s.conn.expect(patience)
		switch {
		case s.cursor == "":
			s.cursor = f.Cursor
		case f.Resumed: // the last ack may have been lost with the connection before
			s.ackSoon()
		} // else a gap follows, and moves the cursor: should the connection end before, it is owed still
		s.o.OnNotice(Connected{User: f.User, Session: f.Session, Resumed: f.Resumed, Pending: f.Pending})
	case wire.TypeEvent:
		e := Event{From: f.From, Cursor: f.Cursor, Replay: f.Replay}
		if err := parseEvent(f.Event, &e); err != nil {
			return err
		}
		if err := s.handle(ctx, e); err != nil {
			return err
		}
		s.ackSoon()
	case wire.TypeGap:
		s.cursor = f.Cursor
		s.o.OnNotice(Gap{After: f.After, Cursor: f.Cursor, Reason: f.Reason})
	case wire.TypeRecalled:
		s.o.OnNotice(Recalled{f.ID})
	case wire.TypeTokenExpiring:
		return s.renew(ctx, time.Duration(f.InMs)*time.Millisecond)
	case wire.TypeReconnect:
		s.advice = max(0, time.Duration(f.AfterMs)*time.Millisecond)
	case wire.TypeError:
		s.o.OnNotice(Refused{f.Problem})
	}
	return nil // types that are not known are for newer clients
}

// renew sends a new token before the old one expires, where one can be had.
func (s *session) renew(ctx context.Context, left time.Duration) error {
	if !s.backoff.renews {
		s.o.OnNotice(TokenExpiring{left})
		return nil
	}
	token, err := s.token(ctx)
	if err != nil {
		return err
	}
	// If this fails, the reader notices that the connection is lost, and the
	// next one gets a new token.
	_ = s.write(clientFrame{Type: wire.TypeRefresh, Token: token})
	return nil
}

// ackSoon makes an ack due, unless one is.
func (s *session) ackSoon() {
	if !s.unacked {
		s.unacked = true
		s.ackDue.Reset(s.o.AckEvery)
	}
}

// ack saves the cursor and then sends it to the bridge, if an ack is due. If that fails
// it returns how the connection has ended.
func (s *session) ack() *ending {
	if !s.unacked {
		return nil
	}
	s.unacked = false
	if err := s.save(); err != nil {
		e := s.leave(ending{fatal: err})
		return &e
	}
	if s.o.NoAck {
		return nil
	}
	if err := s.write(clientFrame{Type: wire.TypeAck, Cursor: s.cursor}); err != nil {
		e := s.broken(err)
		return &e
	}
	return nil
}

// clientFrame is a frame that this client sends.
type clientFrame struct {
	Type   string `json:"type"`
	After  string `json:"after,omitempty"`  // connect
	Cursor string `json:"cursor,omitempty"` // ack
	Token  string `json:"token,omitempty"`  // refresh
}

func (s *session) write(f clientFrame) error { return s.conn.write(ws.NewTextFrame(wire.Encode(f))) }

// leave sends a close frame and waits for the answer, up to closeTimeout.
func (s *session) leave(e ending) ending {
	if s.conn.write(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))) == nil {
		s.await()
	}
	return e
}

// broken returns how the connection has ended on which a write failed. The reader's error
// comes first: the write may have failed because the bridge has closed.
func (s *session) broken(err error) ending {
	if read := s.await(); read != nil {
		err = read
	}
	return s.ended(err)
}

// await waits up to closeTimeout for the reader to end, and returns its error. Frames
// that come meanwhile are dropped; the next connection gets them again.
func (s *session) await() error {
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	for {
		select {
		case <-s.frames:
		case err := <-s.lost:
			return err
		case <-timer.C:
			return nil
		}
	}
}

// ended maps the error of a connection to its ending.
func (s *session) ended(err error) ending {
	e := ending{code: closeLost, reason: "connection lost", after: s.advice, connected: s.connected}
	var closed *closedError
	switch {
	case errors.As(err, &closed) && closed.code != 0:
		e.code, e.reason = closed.code, closed.reason
	case errors.Is(err, wsutil.ErrMessageTooLarge):
		e.fatal = fmt.Errorf("the bridge sent a frame of more than %d bytes", s.o.MaxFrameBytes)
	case errors.Is(err, errSilent):
		e.reason = err.Error()
	}
	return e
}
