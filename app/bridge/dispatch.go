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

	"golang.org/x/time/rate"
)

// read runs until the connection is gone or, where it may be, parked. Once the session
// is ending it only reads on, so that the peer's close frame is seen.
func (s *Session) read(mayPark bool) (parked bool) {
	for {
		if mayPark && s.conn.Park(s) {
			return true
		}
		kind, payload, err := s.conn.Read()
		if err != nil {
			if code, reason := readFailure(err); code != 0 && s.finish(code, reason) {
				continue
			}
			return false
		}
		if !s.admitFrame(kind, len(payload)) {
			if kind == KindClose {
				return false
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

// What a client may send, in frames: so many a second for long, and so many at once. An
// app sends a few a minute; a device that comes back sends what it has kept at once.
const (
	frameRate  = 100
	frameBurst = 1000
)

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
	if s.frames == nil {
		s.frames = rate.NewLimiter(frameRate, frameBurst)
	}
	if !s.frames.AllowN(now, 1) {
		s.end(wire.CloseTooMany, "too many frames", false)
		return false
	}
	return true
}

// answerPing answers a client's ping, in its turn.
func (s *Session) answerPing(payload []byte) {
	s.writeOrQueue(item{raw: s.conn.AppendPong(nil, payload)})
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
		s.refuse(f.Ref, wire.NewProblem(wire.CodeUnknownType, "known types: ack, seen, send, request, refresh, ping"))
		return
	case err != nil:
		s.refuse(f.Ref, wire.NewProblem(wire.CodeInvalidFrame, err.Error()))
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
	case *wire.Request:
		s.request(body)
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

// longRef is not answered with the ref.
var longRef = wire.NewProblem(wire.CodeInvalidFrame, "/ref must have at most "+strconv.Itoa(wire.MaxRefBytes)+" bytes")

func (s *Session) send(f *wire.Send) {
	if len(f.Ref) > wire.MaxRefBytes {
		s.refuse("", longRef)
		return
	}
	e, err := wire.DecodeSend(f)
	if err != nil {
		p := wire.NewProblem(wire.CodeInvalidFrame, err.Error())
		s.refuse(f.Ref, p)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	o, err := s.sendEvent(ctx, f.Ref, e)
	if err != nil {
		s.refuse(f.Ref, frameProblem(err))
		return
	}
	s.reply(wire.Result{Ref: f.Ref, ID: o.ID, Status: string(o.Status), Sessions: o.Sessions, Duplicate: o.Duplicate}.Frame())
}

// sendEvent takes an event to users or to a backend.
func (s *Session) sendEvent(ctx context.Context, ref string, e wire.Event) (Outcome, error) {
	if e.To.Backend != nil {
		return s.b.SendToBackend(ctx, s.currentIdentity(), s.id, ref, e)
	}
	return s.b.Send(ctx, s.currentIdentity(), ref, e)
}

// plainText handles what a plain client sends: a message to a user, to all, or to the
// backend.
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
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, `a message is {"toUserId":"…","message":"…"}, or without toUserId for the backend, nested less than `+strconv.Itoa(wire.MaxDepth)+" levels"))
		return
	}
	e := wire.Event{Type: wire.PlainType, TTL: -1, Data: wire.PlainData(m.Message)}
	switch m.ToUserID {
	case wire.PlainToAll:
		e.To.All = true
	case "":
		e.To.Backend = new(string)
	default:
		e.To.User = m.ToUserID
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if _, err := s.sendEvent(ctx, "", e); err != nil {
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
