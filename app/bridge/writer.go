package bridge

import (
	"sync"
	"time"

	"hookbridge/app/wire"
)

const (
	// writeChunk is how many bytes go to the socket in one call: enough to
	// spread the cost of the system call, little enough that a slow peer's
	// queue is seen early.
	writeChunk = 32 << 10
	// pageCount and pageBytes bound one read of a replay.
	pageCount = 128
	pageBytes = 256 << 10
)

// writerPool keeps the buffers of writers that had no more to write.
var writerPool = sync.Pool{New: func() any { return new(writer) }}

// newWriter takes a writer for the session, whose writing was set for it: there is one
// at a time.
func (s *Session) newWriter() *writer {
	w := writerPool.Get().(*writer)
	w.s = s
	return w
}

// release gives back a writer that has written all.
func (w *writer) release() {
	if cap(w.buf) <= 2*writeChunk {
		*w = writer{buf: w.buf[:0], cursor: w.cursor, head: w.head}
		writerPool.Put(w)
	}
}

// write is the session's writer goroutine. It runs while there is something to write:
// first what is queued, then, while reading is set, what is stored.
func (w *writer) write() {
	defer w.s.recoverWriter()
	w.run()
	w.release()
}

// writeDirect writes one item, and then what was queued meanwhile, on the goroutine that
// hands it over.
func (s *Session) writeDirect(it item) {
	defer s.recoverDirect()
	w := s.newWriter()
	w.one[0] = it
	w.direct = true
	w.put(w.one[:])
	w.runDirect()
}

// writeQueued writes what is queued, on a goroutine that other sessions need as well.
func (s *Session) writeQueued() {
	defer s.recoverDirect()
	w := s.newWriter()
	w.direct = true
	w.runDirect()
}

// directTurns is how often runDirect looks whether more was queued.
const directTurns = 4

// runDirect writes what is queued without waiting. What the socket does not take at once,
// what has to be read from the store, and the end are left to a writer goroutine.
func (w *writer) runDirect() {
	s := w.s
	for range directTurns {
		s.mu.Lock()
		if len(w.buf) > 0 || s.ending != nil || s.reading {
			s.mu.Unlock()
			break
		}
		items := s.queue
		s.queue, s.queued = nil, 0
		s.writing = len(items) > 0
		s.mu.Unlock()
		if len(items) == 0 {
			w.direct = false
			w.release()
			return
		}
		w.put(items)
		putItems(items)
	}
	w.direct = false
	go w.write()
}

// put writes items, or ends the session.
func (w *writer) put(items []item) {
	if !w.items(items) || !w.flush() {
		w.fail()
	}
}

// writer is the one that writes to the session's socket, as long as there is something
// to write.
type writer struct {
	s      *Session
	direct bool    // it is not to wait
	one    [1]item // what writeDirect writes
	buf    []byte
	cursor []byte   // of the event frame made last
	head   []byte   // as cursor
	last   Position // place of the last frame in buf
	ping   bool     // a ping must follow what is in buf
	broken bool     // a write has failed
}

func (w *writer) run() {
	s := w.s
	for {
		s.mu.Lock()
		items, ending, pull := s.queue, s.ending, s.reading
		s.queue, s.queued = nil, 0
		if len(items) == 0 && len(w.buf) == 0 && ending == nil && !pull {
			s.writing = false
			s.mu.Unlock()
			return
		}
		if pull && s.page == nil { // otherwise the page was read after moreStored was set to false
			s.moreStored = false
		}
		s.mu.Unlock()

		ok := w.items(items)
		putItems(items)
		if ending != nil {
			// Nothing is written after a close frame: writing stays true, so that
			// no other writer starts.
			if ok && !w.broken {
				w.flush()
			}
			s.conn.WriteClose(ending.closeCode(), ending.reason, time.Now().Add(closeWait))
			return
		}
		if ok && pull {
			ok = w.pull()
		}
		if ok {
			ok = w.flush()
		}
		if !ok {
			w.fail()
		}
	}
}

// closeWait is how long the peer has to answer a close frame.
const closeWait = 2 * time.Second

// items appends frames for what was queued.
func (w *writer) items(items []item) bool {
	for i := range items {
		it := &items[i]
		switch {
		case it.d.Message != nil:
			if !w.isDue(it) {
				continue
			}
			if !it.skip {
				w.event(&it.d, false)
			}
		case it.gone != nil:
			w.recalled(it.gone)
		case it.head != Position{}:
			w.catchUp(it.head)
		case it.life != "":
			if it.life != w.s.life {
				w.readStore()
			}
		case it.frame != nil:
			w.buf = w.s.conn.AppendText(w.buf, *it.frame)
		case it.raw != nil:
			w.buf = append(w.buf, it.raw...)
		default:
			w.ping = true
		}
		if len(w.buf) >= writeChunk && !w.flush() {
			return false
		}
	}
	return true
}

// isDue reports whether a queued message is to be written now, and moves the place on
// to it. A message that the replay has brought already is not. Nor is one that comes
// after a missing place: the fan-out has lost a message there, and the store has both.
func (w *writer) isDue(it *item) bool {
	s := w.s
	if it.d.Mailbox == 0 && it.d.Broadcast == 0 {
		return true
	}
	m, b := it.d.Mailbox, it.d.Broadcast
	if it.d.Life != s.life {
		// The session has not joined the life that gave the message its place yet. It
		// reads the message from the store after that.
		w.readLater(it)
		return false
	}
	if m != 0 && m <= s.at.Mailbox || b != 0 && b <= s.at.Broadcast {
		return false
	}
	if m > s.at.Mailbox+1 || b > s.at.Broadcast+1 {
		w.readLater(it)
		return false
	}
	w.moveTo(Position{Mailbox: max(m, s.at.Mailbox), Broadcast: max(b, s.at.Broadcast)}, !it.skip)
	return true
}

// moveTo moves the session's place on. What lies between is noted as passed
// without a frame; so is the place itself unless its message is handed over.
func (w *writer) moveTo(p Position, handed bool) {
	s := w.s
	from := s.at
	s.at = p
	w.last = p
	one := uint64(0)
	if handed {
		one = 1
	}
	if p.Mailbox-from.Mailbox <= one && p.Broadcast-from.Broadcast <= one {
		return // the usual case: one step, one message
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := p.Mailbox - one; p.Mailbox > from.Mailbox && last > from.Mailbox {
		s.deliveryLog().skip(Position{Mailbox: from.Mailbox + 1}, Position{Mailbox: last})
	}
	if last := p.Broadcast - one; p.Broadcast > from.Broadcast && last > from.Broadcast {
		s.deliveryLog().skip(Position{Broadcast: from.Broadcast + 1}, Position{Broadcast: last})
	}
}

// event appends the frame of a message; the session's place is at it already.
func (w *writer) event(d *Delivery, replay bool) {
	s := w.s
	if s.plain {
		w.plainEvent(d.Message)
	} else {
		w.cursor = cursor{s.tag, s.life, s.at}.append(w.cursor[:0])
		w.head = wire.AppendEventHead(w.head[:0], w.cursor, replay)
		w.buf = s.conn.AppendText(w.buf, wire.Frame{Type: wire.TypeEvent, Cursor: w.cursor, Head: w.head, Tail: d.Message.Tail})
	}
	s.count++
	if d.Message.Wanted != "" || d.Mailbox == 0 && d.Broadcast == 0 {
		w.trackFrame(d)
	}
	s.b.metrics.deliveries.Inc()
	s.b.audit.delivered(s, d.Message)
}

// trackFrame notes the frame of a message that was never stored, or that a caller
// waits for.
func (w *writer) trackFrame(d *Delivery) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Mailbox == 0 && d.Broadcast == 0 {
		s.deliveryLog().unstored(d.Message.ID, s.count)
	}
	if d.Message.Wanted != "" {
		s.frameAwaited = s.count
	}
}

// recalled tells the client that a message was taken back, where it has it: now,
// or from an earlier connection.
func (w *writer) recalled(n *Notice) {
	s := w.s
	if s.wasGiven(n) && !s.plain {
		w.buf = s.conn.AppendText(w.buf, wire.Recalled{ID: n.ID}.Frame())
	}
}

// wasGiven reports whether the client was handed the message of a recall. Only the
// writer calls it.
func (s *Session) wasGiven(n *Notice) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := Position{Mailbox: n.Mailbox, Broadcast: n.Broadcast}
	if place == (Position{}) {
		_, had := s.timesOf(n.ID, 0, 0)
		return had
	}
	return s.at.Covers(place) && (s.deliveries == nil || !s.deliveries.skipped(place))
}

func (w *writer) plainEvent(m *Message) {
	out := m.Event
	if m.From != "" {
		out = wire.PlainMessage(m.From, w.s.user, m.Event)
	}
	w.buf = w.s.conn.AppendText(w.buf, wire.Frame{Head: out})
}

// flush writes what was appended; a direct writer keeps what the socket does not take
// at once. The ping of a heartbeat goes last, so that
// its pong answers for all that is before it; in plain mode one follows each
// write, at most one under way.
func (w *writer) flush() bool {
	s := w.s
	h, ping := w.nextWrite()
	if ping {
		var p [64]byte
		w.buf = s.conn.AppendPing(w.buf, h.append(p[:0]))
		w.ping = false
	}
	if len(w.buf) == 0 {
		return true
	}
	rest, err := w.buf, error(nil)
	if c, ok := s.conn.(TryWriter); ok {
		var n int
		n, err = c.TryWrite(rest)
		rest = rest[n:]
	}
	if len(rest) > 0 && err == nil && !w.direct {
		err = s.conn.Write(rest, time.Now().Add(writeTimeout+time.Duration(len(rest))*time.Second/writeRate))
		rest = nil
	}
	if err != nil {
		rest = nil
	}
	w.buf = w.buf[:copy(w.buf, rest)]
	return err == nil
}

// nextWrite notes in the session what is about to be written, and returns the heartbeat
// that a ping with it would carry, and whether there is to be one.
func (w *writer) nextWrite() (h heartbeat, ping bool) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	place := s.written.Max(w.last)
	ping = w.ping
	if !s.pinged && !s.oneWay {
		if s.plain && place != s.received && place != (Position{}) || s.frameAwaited > s.framesAnswered {
			ping = true
		}
	}
	if ping {
		s.pinged = true
	}
	if len(w.buf) > 0 || ping {
		// A pong can come back before Write returns: say first what it may answer.
		s.logWrite(place, s.count)
	}
	return heartbeat{place, s.count, s.rewinds}, ping
}
