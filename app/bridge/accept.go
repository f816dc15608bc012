package bridge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"hookbridge/app/wire"
)

// Handshake is what is known of a connection before its first frame.
type Handshake struct {
	Plain bool // no subprotocol was offered: the plain mode
	// Identity is whose token the handshake carried; nil where the first
	// frame has to bring one.
	Identity *Identity
	// Transport names what carries the session; "websocket" where empty. One
	// that is OneWay brings no frames: Identity is set, and After is where to
	// resume.
	Transport string
	OneWay    bool
	After     string
	// Authenticated, where set, is called once the session has proven whose it
	// is. It is not called for one that never does.
	Authenticated func()
}

// refusal is a connection that ends before it is a session.
type refusal struct {
	code   wire.CloseCode
	reason string
	echo   wire.CloseCode // as an ending's
}

func (r *refusal) Error() string { return r.reason }

// Accept serves one connection and owns it from here on. It blocks until the
// connection is a session or has ended; a session's connection is then parked, or
// read on a goroutine whose stack has never been deeper than reading needs.
func (b *Bridge) Accept(conn Conn, h Handshake) {
	if !b.enter(conn) {
		b.Refuse(conn, wire.CloseRestart, "this machine is about to stop")
		return
	}
	begun := false
	defer func() {
		if !begun {
			conn.Abort()
			b.running.Done()
		}
	}()
	var s *Session
	var after string
	var err error
	if b.guard.Run("connection", func() {
		conn.Limit(b.cfg.MaxBytes)
		s, after, err = b.handshake(conn, h)
	}) {
		err = &refusal{code: wire.CloseInternal, reason: brokenReason}
	}
	b.enterMu.Lock()
	delete(b.unauthenticated, conn)
	b.enterMu.Unlock()
	if err != nil {
		var r *refusal
		if errors.As(err, &r) {
			b.metrics.ends.WithLabelValues(strconv.Itoa(int(r.code))).Inc()
			b.noteRefused(conn, r.code, r.reason)
			b.Refuse(conn, cmp.Or(r.echo, r.code), r.reason)
		}
		return
	}
	if h.Authenticated != nil {
		h.Authenticated()
	}
	if errors.Is(s.join(after), ErrRevoked) {
		s.refused = true
		b.noteRefused(conn, wire.CloseForbidden, ErrRevoked.Error())
	}
	begun = true
	if !conn.Park(s) {
		go s.serve()
	}
}

// enter counts a call of Accept, unless the bridge is draining. Drain sets its
// flag under the same lock, so that it waits for all that got in.
func (b *Bridge) enter(conn Conn) bool {
	b.enterMu.Lock()
	defer b.enterMu.Unlock()
	if b.draining.Load() {
		return false
	}
	b.running.Add(1)
	b.unauthenticated[conn] = struct{}{}
	return true
}

// RefuseConnection refuses a connection as Refuse does, and notes it in the log and
// the audit log, as far as Refusals allows.
func (b *Bridge) RefuseConnection(conn Conn, code wire.CloseCode, reason string) {
	b.noteRefused(conn, code, reason)
	b.Refuse(conn, code, reason)
}

func (b *Bridge) noteRefused(conn Conn, code wire.CloseCode, reason string) {
	if kind := strconv.Itoa(int(code)); b.refusals.Write(kind) {
		b.log.Info("a connection was refused", "code", int(code), "reason", reason, "remote", conn.Remote())
		b.audit.Refused(kind, "connect", slog.String("reason", reason), slog.String("remote", conn.Remote()))
	}
}

// Refuse closes a connection that never became a session, with the reason, and waits
// for the peer's own close. It writes nothing into logs: RefuseConnection does that.
func (b *Bridge) Refuse(conn Conn, code wire.CloseCode, reason string) {
	go b.guard.Run("connection", func() {
		for {
			if kind, _, err := conn.Read(); err != nil || kind == KindClose {
				return
			}
		}
	})
	conn.WriteClose(code, truncate(reason), time.Now().Add(closeWait))
}

// handshake takes what must come before a session: within ConnectTimeout, the first
// frame with where to resume, and a token from there or from the handshake.
// Its error is a *refusal, or the connection's own.
func (b *Bridge) handshake(conn Conn, h Handshake) (s *Session, after string, err error) {
	var id Identity
	if h.Identity != nil {
		id = *h.Identity
	}
	if h.OneWay {
		after = h.After
	} else if !h.Plain || h.Identity == nil {
		token := ""
		if token, after, err = b.firstFrame(conn, h.Plain); err != nil {
			return nil, "", err
		}
		switch {
		case token != "" && h.Identity != nil:
			return nil, "", &refusal{code: wire.CloseBadFrame, reason: "more than one token: the handshake had one already"}
		case token == "" && h.Identity == nil:
			return nil, "", &refusal{code: wire.CloseUnauthorized, reason: "token missing: give it in the connect frame"}
		case token != "":
			ctx, cancel := context.WithTimeout(context.Background(), b.cfg.ConnectTimeout)
			id, err = b.auth.Authenticate(ctx, token)
			cancel()
			if errors.Is(err, ErrUnavailable) {
				return nil, "", &refusal{code: wire.CloseOverloaded, reason: "tokens cannot be checked at this moment"}
			}
			if err != nil {
				return nil, "", &refusal{code: wire.CloseUnauthorized, reason: err.Error()}
			}
		}
	}
	if b.Full() { // others may have become sessions since the upgrade
		return nil, "", &refusal{code: wire.CloseOverloaded, reason: ErrFull.Error()}
	}
	return b.newSession(conn, id, h), after, nil
}

// truncate fits a reason into a close frame (RFC 6455 §5.5: 123 bytes of UTF-8).
func truncate(reason string) string {
	if len(reason) > 120 {
		return strings.ToValidUTF8(reason[:120], "")
	}
	return reason
}

// firstFrame reads the connect frame, or a plain client's token.
func (b *Bridge) firstFrame(conn Conn, plain bool) (token, after string, err error) {
	late := make(chan struct{})
	timer := time.AfterFunc(b.cfg.ConnectTimeout, func() {
		close(late)
		b.guard.Run("timer", func() {
			conn.WriteClose(wire.CloseNoConnect, "the first frame did not come in time", time.Now().Add(closeWait))
		})
	})
	payload, err := b.readText(conn)
	if !timer.Stop() {
		<-late
		b.metrics.ends.WithLabelValues(strconv.Itoa(int(wire.CloseNoConnect))).Inc()
		// The timer has the writing now; read on until it has ended the connection.
		for {
			if _, _, err := conn.Read(); err != nil {
				return "", "", err
			}
		}
	}
	if err != nil {
		return "", "", err
	}
	if plain {
		if token, err = wire.ParsePlainToken(payload); errors.Is(err, wire.ErrNotFrame) {
			return "", "", &refusal{code: wire.CloseBadFrame, reason: "not a JSON object"}
		} else if err != nil {
			return "", "", &refusal{code: wire.CloseUnauthorized, reason: `token missing: send {"token":"…"} first`}
		}
		return token, "", nil
	}
	f, err := wire.Parse(payload)
	if errors.Is(err, wire.ErrNotFrame) {
		return "", "", &refusal{code: wire.CloseBadFrame, reason: err.Error()}
	}
	c, ok := f.Body.(*wire.Connect)
	if !ok {
		return "", "", &refusal{code: wire.CloseBadFrame, reason: `the first frame must be {"type":"connect"} with right members`}
	}
	return c.Token, c.After, nil
}

// readText reads until the first text message and answers pings meanwhile.
func (b *Bridge) readText(conn Conn) ([]byte, error) {
	// As many frames as a session may send at once, counted in the same way.
	for left := frameBurst * fragmentsAFrame; left > 0; {
		kind, payload, err := conn.Read()
		if err != nil {
			if code, reason := readFailure(err); code != 0 {
				return nil, &refusal{code: code, reason: reason}
			}
			return nil, err
		}
		if left -= fragmentsAFrame; kind == KindFragment && len(payload) > 0 {
			left += fragmentsAFrame - 1
		}
		switch kind {
		case KindText:
			return payload, nil
		case KindBinary:
			return nil, &refusal{code: wire.CloseUnsupported, reason: "frames are text"}
		case KindClose:
			return nil, &refusal{code: wire.CloseNormal, echo: closeCode(payload)}
		case KindPing:
			if err := conn.Write(conn.AppendPong(nil, payload), time.Now().Add(time.Second)); err != nil {
				return nil, err
			}
		}
	}
	return nil, &refusal{code: wire.CloseTooMany, reason: "too many frames before the first one"}
}

// readFailure says how a failed read is told to the peer; 0 where it cannot be.
func readFailure(err error) (wire.CloseCode, string) {
	switch {
	case errors.Is(err, ErrFrameTooLarge):
		return wire.CloseTooBig, "the frame is larger than maxBytes"
	case errors.Is(err, ErrProtocol):
		return wire.CloseProtocol, "RFC 6455 was broken"
	case errors.Is(err, ErrNotUTF8):
		return wire.CloseInvalidUTF8, "text must be UTF-8"
	case errors.Is(err, ErrCrowded):
		return wire.CloseOverloaded, ErrCrowded.Error()
	case errors.Is(err, ErrSlowMessage):
		return wire.CloseInternal, "a message that was begun did not come in time"
	}
	return 0, ""
}
