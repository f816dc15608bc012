package bridge

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hookbridge/app/wire"
)

// Session is one live connection of one user. Its reader goroutine (the one
// that called Accept) owns it; a writer goroutine exists only while there is
// something to write, so that a session that waits costs one small stack.
type Session struct {
	b      *Bridge
	conn   Conn
	id     string
	user   string
	since  time.Time
	plain  bool
	frames *rate.Limiter // reader only

	fragments uint32 // of unfinished messages, since the beginning; reader only

	transport string // "websocket", "sse" or "poll"
	oneWay    bool   // the peer can only listen: it answers no ping
	refused   bool   // it was not let in, which Accept has noted

	joining sync.Mutex // held by one Join at a time, so that the last one has the last token; taken before mu

	presence presence // guarded by the hub's lock

	mu             sync.Mutex // guards what follows
	identity       Identity
	next           *Identity // of a newer token that the engine has not taken yet
	suspect        bool      // identity was revoked while next was on its way
	tag            string    // cursorTag of the store and the user
	life           string    // of the store in which all places here were given out; changed by the writer alone
	rewinds        uint64    // how often the store went back behind what was written
	ready          bool      // the first frames are queued: the writer may start
	writing        bool      // a writer goroutine exists
	queue          []item
	queued         int  // bytes in queue
	reading        bool // what is stored is read from the engine, not from the queue
	moreStored     bool // something was stored since the last read began
	skip           map[string]struct{}
	ending         *ending
	leaving        bool         // a poll that is being answered to make room for other sessions
	left           time.Time    // when the session's reader began to leave the engine; zero before
	written        Position     // furthest place whose frame went to the socket
	received       Position     // furthest place that a pong answered for
	pinged         bool         // a ping is under way
	framesWritten  uint64       // event frames that went to the socket
	framesAnswered uint64       // event frames that a pong answered for
	frameAwaited   uint64       // a caller waits for the pong that answers for so many
	start          Position     // where its reading began
	deliveries     *DeliveryLog // nil before there is anything in it
	timer          *time.Timer
	heard          time.Time // when the peer last sent anything
	pingAt         time.Time
	warning        expiryWarning

	// at is the place of the last message handed to the socket. It belongs to
	// the writer; between two writers mu passes it on.
	at     Position
	told   told  // what needs no gap frame; writer
	page   *Page // read before the writer began; writer
	replay Position
	count  uint64 // event frames appended so far; writer
}

// item is one thing to write: a frame, a delivery, or (empty) a ping.
type item struct {
	frame *wire.Frame // a frame of the session's own
	raw   []byte      // ready to write: a pong
	d     Delivery
	skip  bool     // moves the place on without writing
	gone  *Notice  // a recall, to be told if the message was handed over
	head  Position // there may be messages up to here that nobody told of
	life  string   // the store lives this life now
}

func (it *item) size() int {
	if it.d.Message != nil {
		return len(it.d.Message.Tail)
	}
	if it.frame != nil {
		return len(it.frame.Head)
	}
	return len(it.raw)
}

// own is the item of a frame that nobody shares with the session.
func own(f wire.Frame) item { return item{frame: &f} }

type ending struct {
	code   wire.CloseCode
	reason string
	flush  bool // write what is queued first
	// echo is the peer's own code where it was the peer that closed: that is
	// what its close frame is answered with (RFC 6455 §5.5.1). code goes to the
	// log and to the metrics, whose labels a peer must not choose.
	echo wire.CloseCode
}

// answer is the code of our close frame.
func (e *ending) answer() wire.CloseCode { return cmp.Or(e.echo, e.code) }

// offer hands the session a message that just became readable; false where it
// is not for this session. It never blocks: a full queue ends the session, and
// its client resumes from its cursor.
func (s *Session) offer(d Delivery) bool {
	defer s.recoverPanic()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return false
	}
	stored := d.Mailbox != 0 || d.Broadcast != 0
	for _, id := range d.Message.Except {
		if id != s.id {
			continue
		}
		if stored && s.reading {
			if s.skip == nil {
				s.skip = make(map[string]struct{})
			}
			s.skip[d.Message.ID] = struct{}{}
			s.moreStored = true
		} else if stored {
			s.push(item{d: d, skip: true})
		}
		return false
	}
	if stored && s.reading {
		s.moreStored = true
		s.wakeWriter()
		return true
	}
	if !s.push(item{d: d}) {
		return false
	}
	if !stored {
		s.deliveryLog().unstored(d.Message.ID, notYet)
	}
	return true
}

// readUpTo has the session read up to head from the store, where it is not there.
func (s *Session) readUpTo(head Position) {
	defer s.recoverPanic()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending != nil:
	case s.reading:
		s.moreStored = true
		s.wakeWriter()
	default:
		s.push(item{head: head}) // only the writer, in its turn, knows where it is
	}
}

// newLife has the session find out, in its turn, whether what it has seen still
// holds in the life that the store lives now.
func (s *Session) newLife(life string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		s.push(item{life: life})
	}
}

// reply queues a frame of the session's own.
func (s *Session) reply(f wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		s.push(own(f))
	}
}

// push queues an item and sees that a writer runs; mu is held.
func (s *Session) push(it item) bool {
	n := it.size()
	if len(s.queue) >= s.b.cfg.QueueFrames || s.queued+n > s.b.cfg.QueueBytes {
		s.b.metrics.overflows.Inc()
		s.end(wire.CloseSlow, "too slow: the queue overflowed; reconnect with the last cursor", false)
		return false
	}
	if s.queue == nil {
		s.queue = getItems()
	}
	s.queue = append(s.queue, it)
	s.queued += n
	s.wakeWriter()
	return true
}

// wakeWriter starts the writer where none runs; mu is held.
func (s *Session) wakeWriter() {
	if s.ready && !s.writing {
		s.writing = true
		go s.write()
	}
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
		s.conn.ExpireWrite(time.Now().Add(s.b.cfg.SlowGrace))
	}
	s.ready = true
	s.wakeWriter()
}

// isEnding reports whether the session is about to be gone by itself. Such a
// session does not count against the user's limit.
func (s *Session) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending != nil || s.leaving
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

// tick is the session's one timer: heartbeat, silence, and the token's end.
func (s *Session) tick() {
	defer s.recoverPanic()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	now, wall := time.Now(), s.b.cfg.Now()
	left := s.identity.Expires.Sub(wall)
	if left <= 0 {
		s.end(wire.CloseUnauthorized, "the token has expired", true)
		return
	}
	if !s.oneWay && now.Sub(s.heard) > 2*s.b.cfg.PingEvery+s.b.cfg.PingEvery/2 {
		s.end(wire.CloseInternal, "nothing heard for too long", false)
		return
	}
	if s.warning.take(wall) && !s.plain {
		s.push(own(wire.TokenExpiring{InMs: left.Milliseconds()}.Frame()))
	}
	if !now.Before(s.pingAt) {
		s.pingAt = now.Add(s.b.cfg.PingEvery)
		s.push(item{}) // an empty item is a ping
	}
	s.arm()
}

// expect plans for the end of a token that has just come; mu is held.
func (s *Session) expect() {
	s.warning.plan(s.b.cfg.Now(), s.identity.Expires, s.b.cfg.ExpiryWarning)
	s.arm()
}

// arm sets the timer to whatever comes next: a ping, the warning, or the token's
// end; mu is held.
func (s *Session) arm() {
	wall := s.b.cfg.Now()
	next := min(time.Until(s.pingAt), s.identity.Expires.Sub(wall))
	if !s.warning.due.IsZero() {
		next = min(next, s.warning.due.Sub(wall))
	}
	next = max(next, time.Millisecond)
	if s.timer == nil {
		s.timer = time.AfterFunc(next, s.tick)
		return
	}
	s.timer.Reset(next)
}

// renew takes a newer token's identity, and the groups it names. Where the
// engine fails, the session goes on with the token it had.
func (s *Session) renew(ctx context.Context, id Identity) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	s.mu.Lock()
	m := s.memberWith(&id)
	s.next = &id
	s.mu.Unlock()
	_, err := s.b.live.Join(ctx, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = nil
	if err != nil {
		if s.suspect {
			s.end(wire.CloseForbidden, ErrRevoked.Error(), false)
		}
		return fmt.Errorf("join: %w", err)
	}
	s.identity, s.suspect = id, false
	s.expect()
	return nil
}

// revoked ends the session where a revocation covers its token. While a newer
// token is on its way, the older one decides only if the newer does not come in.
func (s *Session) revoked(r Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	covers := func(id *Identity) bool { return r.Covers(id.TokenID, id.Issued) }
	switch {
	case s.next == nil && covers(&s.identity), s.next != nil && covers(s.next):
		s.end(wire.CloseForbidden, ErrRevoked.Error(), false)
	case s.next != nil && covers(&s.identity):
		s.suspect = true
	}
}

func (s *Session) currentIdentity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}
