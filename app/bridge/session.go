package bridge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"hookbridge/app/wire"
)

// Session is one live connection of one user. Its reader goroutine reads frames and
// carries them out (dispatch.go). Others queue what is to be written (queue.go), or write
// it themselves where nothing else is to be written and the socket takes it at once. A
// writer goroutine exists only while there is more to write (writer.go), and the
// reader's only while there is something to read, where the connection can be parked.
//
// Its life: Accept makes it (newSession), join registers it in the hub, joins Live and
// queues the first frames, serve reads until the connection is gone, leave undoes all that.
type Session struct {
	b         *Bridge
	conn      Conn
	id        string
	user      string
	since     time.Time
	transport string // "websocket", "sse" or "poll"
	plain     bool   // plain mode: no frames of ours but events
	oneWay    bool   // the peer can only listen: it answers no ping
	refused   bool   // it was not let in, which its caller has noted

	frames    *rate.Limiter // of what the peer sends; nil before the first frame; only the reader uses it
	fragments uint32        // of unfinished messages, since the beginning; only the reader uses it

	joining sync.Mutex // held by one Join at a time, so that the last one has the last token; taken before mu

	presence presence // guarded by the hub's lock
	coming   *coming  // how backends are told that the user has come; nil where they are not. Set by join, read by leave

	mu sync.Mutex // guards what follows

	// The token.
	identity Identity
	next     *Identity // of a newer token, while it is on its way to Live
	suspect  bool      // identity was revoked while next was on its way
	warning  expiryWarning

	// The place in the store.
	tag     string   // cursorTag of the store and the user
	life    string   // of the store in which all places here were given out; changed by the writer alone
	rewinds uint64   // how often the store went back behind what was written
	start   Position // where its reading began

	// What is to be written.
	ready        bool // the first frames are queued: the writer may start
	writing      bool // somebody writes: a writer goroutine, or who has handed a message over
	queue        []item
	queued       int                 // bytes in queue
	reading      bool                // messages are read from the store, not taken from the queue
	moreStored   bool                // something was stored since the last read began
	skip         map[string]struct{} // ids of messages to leave out when they are read from the store
	ending       *ending             // why it ends; nil while it does not
	pollAnswered bool                // it is a poll that is being answered to make room for other sessions
	leftAt       time.Time           // when leave began; zero before

	// What was written, and what the peer answered for.
	written        Position     // furthest place whose frame went to the socket
	received       Position     // furthest place that a pong answered for
	framesWritten  uint64       // event frames that went to the socket
	framesAnswered uint64       // event frames that a pong answered for
	frameAwaited   uint64       // a caller waits for the pong that answers for so many event frames
	deliveries     *DeliveryLog // nil before there is anything in it

	// Requests of the session.
	requests    int                // under way
	requestLife context.Context    // theirs; nil before the first
	endRequests context.CancelFunc // ends it

	// The heartbeat.
	timer  *time.Timer
	heard  time.Time // when the peer last sent anything
	pinged bool      // a ping is under way
	pingAt time.Time // when the next ping is due

	// What follows is the writer's; between two writers mu passes it on.
	at     Position // of the last message handed to the socket
	told   toldGaps // needs no gap frame: told of, or never owed
	page   *Page    // read before the writer began
	replay Position // events up to here are marked as replayed
	count  uint64   // event frames appended so far
}

// closeLost stands in logs and metrics for a connection that ended without a close
// frame. It is never sent (RFC 6455 §7.1.5).
const closeLost wire.CloseCode = 1006

// ending is why and how a session ends.
type ending struct {
	code   wire.CloseCode
	reason string
	flush  bool // write what is queued first
	// echo is the peer's own code where it was the peer that closed: that is
	// what its close frame is answered with (RFC 6455 §5.5.1). code goes to the
	// log and to the metrics, whose labels a peer must not choose.
	echo wire.CloseCode
}

// closeCode is the code of our close frame.
func (e *ending) closeCode() wire.CloseCode { return cmp.Or(e.echo, e.code) }

func (b *Bridge) newSession(conn Conn, id Identity, h Handshake) *Session {
	now := time.Now()
	if h.Transport == "" {
		h.Transport = "websocket"
	}
	return &Session{
		b: b, conn: conn, id: "ses_" + ulid.Make().String(), user: id.User, plain: h.Plain,
		transport: h.Transport, oneWay: h.OneWay,
		since: b.cfg.Now(), identity: id,
		reading: true, heard: now, pingAt: now.Add(b.cfg.PingEvery),
	}
}

// join registers the session in the hub and queues its first frames. After an error the
// session is ending, and serve sees to the rest; the error tells the caller why.
func (s *Session) join(after string) (err error) {
	defer s.recoverPanic()
	b := s.b
	b.hub.add(s)
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	err = s.begin(ctx, after)
	cancel()
	if code, reason := endingOf(err); code != 0 {
		if code == wire.CloseInternal {
			b.log.Warn("a session could not begin", "session", s.id, "error", err)
		}
		s.Close(code, reason)
	} else {
		s.mu.Lock()
		s.planExpiry()
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

// serve reads until the connection is gone or parked. Once it is gone, serve undoes join
// in reverse, with one reason, one metric and one log line.
func (s *Session) serve() {
	parked := false
	if s.b.guard.Run(whereSession, func() { parked = s.read(true) }) {
		s.finish(wire.CloseInternal, brokenReason)
		s.b.guard.Run(whereSession, func() { s.read(false) }) // once more, to see the peer's close frame
		s.writeLastClose()
	}
	if parked {
		return // another goroutine may have the session already
	}
	defer s.b.running.Done()
	defer s.b.hub.remove(s)
	s.b.guard.Run(whereSession, s.leave)
}

// Resume implements Resumer: serve goes on where it parked the connection.
func (s *Session) Resume() { s.serve() }

func (s *Session) leave() {
	b := s.b
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.ending == nil { // the connection was lost
		s.ending = &ending{code: closeLost, reason: "connection lost"}
	}
	end := *s.ending
	putItems(s.queue)
	s.queue, s.queued = nil, 0
	s.leftAt = b.cfg.Now()
	if s.endRequests != nil {
		s.endRequests()
	}
	var log DeliveryLog
	func() {
		defer s.mu.Unlock()
		log = s.copyDeliveryLog()
	}()
	s.conn.Abort()
	log.end(s.leftAt)
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := b.live.Leave(ctx, log); err != nil && !errors.Is(err, ErrClosed) {
		b.log.Warn("presence was not withdrawn; it will be later", "session", s.id, "error", err)
	}
	if !s.refused || s.coming != nil {
		s.tellGone()
	}
	b.metrics.ends.WithLabelValues(strconv.Itoa(int(end.code))).Inc()
	if s.refused {
		return
	}
	b.log.Info("session ended", "session", s.id, "user", s.user, "code", int(end.code), "reason", end.reason,
		"seconds", int(b.cfg.Now().Sub(s.since).Seconds()))
	b.audit.session("ended", s, slog.String("code", strconv.Itoa(int(end.code))), slog.String("reason", end.reason))
}

// end asks for the connection to be closed; the first reason stays. mu is held.
func (s *Session) end(code wire.CloseCode, reason string, flush bool) {
	if s.ending != nil {
		return
	}
	s.ending = &ending{code: code, reason: reason, flush: flush}
	if !flush {
		putItems(s.queue)
		s.queue, s.queued = nil, 0
	}
	if s.writing {
		// A write that is stuck must not hold the end up for long; one that
		// moves again within the grace lets the client read the close code.
		s.conn.ExpireWrite(time.Now().Add(slowGrace))
	}
	s.ready = true
	s.wakeWriter()
}

// Close ends the session with a code that tells its client what to do.
func (s *Session) Close(code wire.CloseCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(code, reason, false)
}

// endWith writes what is queued and one last frame, then closes. Plain clients
// know no frames: they see only the close code.
func (s *Session) endWith(f wire.Frame, code wire.CloseCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil && !s.plain {
		if s.queue == nil {
			s.queue = getItems()
		}
		s.queue = append(s.queue, own(f))
	}
	s.end(code, reason, true)
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

// isEnding reports whether the session is about to be gone by itself. Such a
// session does not count against the user's limit.
func (s *Session) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending != nil || s.pollAnswered
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

// recoverWriter does the same in the session's writer, which has to write the close
// frame itself.
func (s *Session) recoverWriter() {
	if recover() == nil {
		return
	}
	s.b.guard.Caught(whereSession, "session", s.id)
	s.endBroken()
	s.writeLastClose()
}

// recoverDirect does the same where another goroutine writes, which must not wait for
// the peer.
func (s *Session) recoverDirect() {
	if recover() == nil {
		return
	}
	s.b.guard.Caught(whereSession, "session", s.id)
	s.endBroken()
	go s.writeLastClose()
}

// endBroken ends a session whose writer has panicked: nothing more is written.
func (s *Session) endBroken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		s.ending = &ending{code: wire.CloseInternal, reason: brokenReason}
	}
	s.queue, s.queued = nil, 0 // not into the pool: who knows what it was doing
	s.writing = true           // so that no other writer starts
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

// member is the session as Live knows it; mu is held, or nobody else has
// the session yet.
func (s *Session) member() Member { return s.memberWith(&s.identity) }

// memberWith is the session as it would be with another token's identity.
func (s *Session) memberWith(id *Identity) Member {
	return Member{User: s.user, Session: s.id, Transport: s.transport, Since: s.since,
		Token: id.Token, TokenID: id.TokenID, Issued: id.Issued, Groups: id.Policy.Groups, Until: id.Expires}
}

func (s *Session) asMember() Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member()
}

func (s *Session) currentIdentity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

func (s *Session) cursorTag() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tag
}
