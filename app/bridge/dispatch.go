package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"hookbridge/app/wire"
)

// member is the session as the engine knows it; mu is held, or nobody else has
// the session yet.
func (s *Session) member() Member { return s.memberWith(&s.identity) }

// memberWith is the session as it would be with another token's identity.
func (s *Session) memberWith(id *Identity) Member {
	return Member{User: s.user, Session: s.id, Transport: s.transport, Since: s.since,
		Token: id.Token, TokenID: id.TokenID, Issued: id.Issued, Groups: id.Policy.Groups, Until: id.Expires}
}

// join registers the session and queues its first frames.
// An error has ended it, for live to see; it is returned for those who answer in
// another way.
func (s *Session) join(after string) (err error) {
	defer s.recoverPanic()
	b := s.b
	b.hub.add(s)
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.WriteTimeout)
	err = s.begin(ctx, after)
	cancel()
	if code, reason := endingOf(err); code != 0 {
		if code == wire.CloseInternal {
			b.log.Warn("a session could not begin", "session", s.id, "error", err)
		}
		s.Close(code, reason)
	} else {
		s.mu.Lock()
		s.expect()
		s.mu.Unlock()
		b.log.Debug("session", "session", s.id, "identity", s.identity, "plain", s.plain)
		b.audit.session("connected", s)
	}
	if b.draining.Load() { // it began while Drain was counting
		b.advise(s)
	}
	return err
}

// endingOf says how a session ends that Live does not let in, or no longer
// serves; 0 without an error.
func endingOf(err error) (wire.CloseCode, string) {
	switch {
	case err == nil:
		return 0, ""
	case errors.Is(err, ErrRevoked):
		return wire.CloseForbidden, ErrRevoked.Error()
	case errors.Is(err, ErrErased):
		return wire.CloseErased, ErrErased.Error()
	}
	return wire.CloseInternal, "the store is not available"
}

// live reads until the connection is gone, and undoes join in reverse, with one
// reason, one metric and one log line.
func (s *Session) live() {
	defer s.b.running.Done()
	defer s.b.hub.remove(s)
	defer s.b.guard.Run(whereSession, s.leave)
	if s.b.guard.Run(whereSession, s.read) {
		s.finish(wire.CloseInternal, brokenReason)
		s.b.guard.Run(whereSession, s.read) // once more, to see the peer's close frame
		s.writeLastClose()
	}
}

const (
	// whereSession is what panics that end a session are counted as.
	whereSession = "session"
	// brokenReason is all that a client is told of a panic.
	brokenReason = "the bridge failed"
)

// recoverPanic, deferred, keeps a defect in one session from ending all others: that
// session is closed with 1011. Locks that are held meanwhile must be given back by
// defers that come after it.
func (s *Session) recoverPanic() {
	if recover() != nil {
		s.b.guard.Caught(whereSession, "session", s.id)
		s.finish(wire.CloseInternal, brokenReason)
	}
}

// recoverWriter does the same in the session's writer, which has to say the last
// word itself.
func (s *Session) recoverWriter() {
	if recover() == nil {
		return
	}
	s.b.guard.Caught(whereSession, "session", s.id)
	s.mu.Lock()
	if s.ending == nil {
		s.ending = &ending{code: wire.CloseInternal, reason: brokenReason}
	}
	s.queue, s.queued = nil, 0 // not into the pool: who knows what it was doing
	s.writing = true           // nothing is written any more
	s.mu.Unlock()
	s.writeLastClose()
}

// writeLastClose writes the close frame of a session that is ending, unless one was written.
func (s *Session) writeLastClose() {
	s.mu.Lock()
	end := *s.ending
	s.mu.Unlock()
	if s.b.guard.Run(whereSession, func() { s.conn.WriteClose(end.code, end.reason, time.Now().Add(closeWait)) }) {
		s.b.guard.Run(whereSession, s.conn.Abort)
	}
}

func (s *Session) leave() {
	b := s.b
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.ending == nil { // the connection was lost
		s.ending = &ending{code: 1006, reason: "connection lost"}
	}
	end := *s.ending
	putItems(s.queue)
	s.queue, s.queued = nil, 0
	s.left = b.cfg.Now()
	var log DeliveryLog
	func() {
		defer s.mu.Unlock()
		log = s.copyDeliveryLog()
	}()
	s.conn.Abort()
	log.end(s.left)
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.WriteTimeout)
	defer cancel()
	if err := b.live.Leave(ctx, log); err != nil && !errors.Is(err, ErrClosed) {
		b.log.Warn("presence was not withdrawn; it will lapse", "session", s.id, "error", err)
	}
	b.metrics.ends.WithLabelValues(strconv.Itoa(int(end.code))).Inc()
	if s.refused {
		return
	}
	b.log.Info("session ended", "session", s.id, "user", s.user, "code", int(end.code), "reason", end.reason,
		"seconds", int(b.cfg.Now().Sub(s.since).Seconds()))
	b.audit.session("ended", s, slog.String("code", strconv.Itoa(int(end.code))), slog.String("reason", end.reason))
}

// read runs until the connection is gone. Once the session is ending it only
// reads on, so that the peer's close frame is seen.
func (s *Session) read() {
	for {
		kind, payload, err := s.conn.Read()
		if err != nil {
			if code, reason := readFailure(err); code != 0 && s.finish(code, reason) {
				continue
			}
			return
		}
		if !s.admitFrame(kind, len(payload)) {
			if kind == KindClose {
				return
			}
			continue
		}
		switch kind {
		case KindText:
			s.text(payload)
		case KindBinary:
			s.finish(wire.CloseUnsupported, "frames are text")
		case KindPong:
			s.pong(payload)
		case KindPing:
			s.answerPing(payload)
		case KindClose:
			s.closedByPeer(payload)
		}
	}
}

// closedByPeer ends the session as its client asked for. Answers to what the
// client has sent before go out first; messages do not, since a client that has
// closed shows them to nobody. They stay in the mailbox.
func (s *Session) closedByPeer(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	s.queue = slices.DeleteFunc(s.queue, func(it item) bool { return it.frame == nil && it.raw == nil })
	s.end(wire.CloseNormal, "closed by the client", true)
	s.ending.echo = closeCode(payload)
}

// closeCode reads the code of a close frame; 0 where it has none.
func closeCode(payload []byte) wire.CloseCode {
	if len(payload) < 2 {
		return 0
	}
	return wire.CloseCode(binary.BigEndian.Uint16(payload))
}

// finish ends the session; false where it was ending already.
func (s *Session) finish(code wire.CloseCode, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return false
	}
	switch code {
	case wire.CloseTooBig, wire.CloseUnsupported, wire.CloseProtocol, wire.CloseInvalidUTF8:
		s.end(code, reason, true) // what came before the wrong frame was right, and is answered
	default:
		s.end(code, reason, false)
	}
	return true
}

// fragmentsAFrame is how many fragments count as one frame, empty ones apart.
// Libraries send a large message in pieces, and how many pieces with something in
// them a message may have is bounded by how large it may be; of empty ones there
// is no end.
const fragmentsAFrame = 16

// admitFrame notes that the peer lives, and holds it to its frame rate, in which
// fragments count less and a pong that we asked for does not. False where the session is
// ending.
func (s *Session) admitFrame(kind Kind, size int) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = now
	if s.ending != nil {
		return false
	}
	if kind == KindFragment && size > 0 {
		if s.fragments++; s.fragments%fragmentsAFrame != 0 {
			return true
		}
	}
	if kind == KindPong && s.pinged {
		s.pinged = false // one pong a ping, whatever it carries
		return true
	}
	if !s.frames.AllowN(now, 1) {
		s.end(wire.CloseTooMany, "too many frames", false)
		return false
	}
	return true
}

// answerPing answers a client's ping, in its turn.
func (s *Session) answerPing(payload []byte) {
	frame := s.conn.AppendPong(nil, payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		s.push(item{raw: frame})
	}
}

// text handles one text frame.
//
//go:noinline
func (s *Session) text(payload []byte) {
	if s.plain {
		s.plainText(payload)
		return
	}
	f, err := wire.Parse(payload)
	switch {
	case errors.Is(err, wire.ErrNotFrame):
		s.finish(wire.CloseBadFrame, err.Error())
		return
	case errors.Is(err, wire.ErrUnknownType):
		s.refuse(f.Ref, wire.NewProblem(wire.CodeUnknownType, "known types: ack, seen, send, refresh, ping"))
		return
	case err != nil:
		s.refuse(f.Ref, wire.NewProblem(wire.CodeInvalidFrame, "a member has the wrong type, a name is given twice, or data is nested too deeply ("+strconv.Itoa(wire.MaxDepth)+" levels)"))
		return
	}
	switch body := f.Body.(type) {
	case *wire.Ack:
		c, err := parseCursor(body.Cursor)
		if err != nil || c.tag != s.cursorTag() {
			s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, "cursor must be one that this server gave to this user"))
			return
		}
		s.ack(c)
	case *wire.Seen:
		s.markSeen(body.ID)
	case *wire.Send:
		s.send(body)
	case *wire.Refresh:
		s.refresh(body.Token)
	case *wire.Ping:
		s.reply(wire.Pong{}.Frame())
	case *wire.Connect:
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, "this session is connected already"))
	}
}

func (s *Session) refuse(ref string, p wire.Problem) {
	s.b.metrics.refusedFrames.WithLabelValues(p.Code).Inc()
	if s.b.audit.On() {
		s.b.audit.Refused(p.Code, "frame", slog.String("user", s.user), slog.String("session", s.id), slog.String("token_id", s.currentIdentity().TokenID))
	}
	s.reply(wire.Error{Ref: ref, Problem: p}.Frame())
}

// maxRefChars bounds the ref of a send frame.
const maxRefChars = 128

func (s *Session) send(f *wire.Send) {
	if len(f.Ref) > maxRefChars {
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, "ref must have at most 128 bytes"))
		return
	}
	e, err := wire.DecodeSend(f)
	if err != nil {
		p := wire.NewProblem(wire.CodeInvalidFrame, err.Error())
		s.refuse(f.Ref, p)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.WriteTimeout)
	defer cancel()
	o, err := s.b.Send(ctx, s.currentIdentity(), f.Ref, e)
	if err != nil {
		s.refuse(f.Ref, frameProblem(err))
		return
	}
	s.reply(wire.Result{Ref: f.Ref, ID: o.ID, Status: string(o.Status), Sessions: o.Sessions, Duplicate: o.Duplicate}.Frame())
}

func (s *Session) refresh(token string) {
	if token == "" {
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, "token is missing"))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.ConnectTimeout)
	defer cancel()
	id, err := s.b.auth.Authenticate(ctx, token)
	switch {
	case errors.Is(err, ErrUnavailable): // the client may try again until its token expires
		s.refuse("", ProblemOf(err))
	case err != nil:
		s.finish(wire.CloseUnauthorized, truncate(err.Error()))
	case id.User != s.user:
		s.finish(wire.CloseForbidden, "the token is another user's")
	default:
		if err := s.renew(ctx, id); err != nil {
			if code, reason := endingOf(err); code != wire.CloseInternal {
				s.finish(code, reason)
				return
			}
			s.refuse("", ProblemOf(err)) // the client may try again
			return
		}
		s.reply(wire.Refreshed{ExpiresAt: wire.Time(id.Expires)}.Frame())
	}
}

// plainText handles what a plain client sends: a message to a user or to all.
func (s *Session) plainText(payload []byte) {
	m, err := wire.ParsePlainSend(payload)
	if errors.Is(err, wire.ErrNotFrame) {
		s.finish(wire.CloseBadFrame, "not a JSON object")
		return
	}
	if err != nil {
		if _, tokenErr := wire.ParsePlainToken(payload); tokenErr == nil {
			s.finish(wire.CloseBadFrame, "more than one token: this session had one already")
			return
		}
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, `a message is {"toUserId":"…","message":"…"}, nested less than `+strconv.Itoa(wire.MaxDepth)+" levels"))
		return
	}
	e := wire.Event{Type: wire.PlainType, TTL: -1, Data: wire.PlainData(m.Message)}
	if m.ToUserID == wire.PlainToAll {
		e.To.All = true
	} else {
		e.To.User = m.ToUserID
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.WriteTimeout)
	defer cancel()
	if _, err := s.b.Send(ctx, s.currentIdentity(), "", e); err != nil {
		s.refuse("", frameProblem(err))
	}
}

// frameProblem is what an error means to the sender of a frame: a wrong member of
// the event is a wrong member of the frame.
func frameProblem(err error) wire.Problem {
	if inv := (*InvalidError)(nil); errors.As(err, &inv) {
		return wire.NewProblem(wire.CodeInvalidFrame, inv.Detail)
	}
	return ProblemOf(err)
}
