package bridge

import (
	"slices"
	"sync"

	"hookbridge/app/wire"
)

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

var itemPool = sync.Pool{New: func() any { return new([]item) }}

func getItems() []item { return (*itemPool.Get().(*[]item))[:0] }

func putItems(items []item) {
	if cap(items) == 0 || cap(items) > 1024 {
		return
	}
	clear(items[:cap(items)])
	items = items[:0]
	itemPool.Put(&items)
}

// offer hands the session a message that just became readable; false where it
// is not for this session. It never blocks: a full queue ends the session, and
// its client resumes from its cursor. mayWrite says that the caller has time to write
// the message to the socket itself, if that has nothing else to do.
func (s *Session) offer(d Delivery, mayWrite bool) bool {
	defer s.recoverPanic()
	taken, write := s.accept(d, mayWrite)
	if write {
		s.writeDirect(item{d: d})
	}
	return taken
}

// accept queues a message for offer, or has the caller write it.
func (s *Session) accept(d Delivery, mayWrite bool) (taken, write bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return false, false
	}
	stored := d.Mailbox != 0 || d.Broadcast != 0
	if slices.Contains(d.Message.Except, s.id) {
		if stored && s.reading {
			s.leaveOut(d.Message.ID)
			s.moreStored = true // the message is left out, so that nothing waits for the writer
		} else if stored {
			s.push(item{d: d, skip: true})
		}
		return false, false
	}
	if stored && s.reading {
		s.moreStored = true
		s.wakeWriter()
		return true, false
	}
	write = mayWrite && s.mayWriteDirect()
	if !write && !s.push(item{d: d}) {
		return false, false
	}
	if !stored {
		s.deliveryLog().unstored(d.Message.ID, notYet)
	}
	if write {
		s.writing = true
	}
	return true, write
}

// isIdle reports whether a writer would have nothing to do; mu is held.
func (s *Session) isIdle() bool { return len(s.queue) == 0 && s.ending == nil && !s.reading }

// mayWriteDirect reports whether whoever has something for the session may write it
// without a writer goroutine: nothing else is to be written, and writing waits for
// nothing. mu is held.
func (s *Session) mayWriteDirect() bool {
	return s.ready && !s.writing && s.isIdle() && s.waitsForNothing()
}

// waitsForNothing reports whether what is queued can be written without waiting, be it for
// a socket or for the audit log.
func (s *Session) waitsForNothing() bool {
	_, can := s.conn.(TryWriter)
	return can && !s.b.audit.On()
}

// leaveOut has a message left out when it is read from the store; mu is held.
func (s *Session) leaveOut(id string) {
	if s.skip == nil {
		s.skip = make(map[string]struct{})
	}
	s.skip[id] = struct{}{}
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

// reply writes a frame of the session's own, or queues it.
func (s *Session) reply(f wire.Frame) { s.writeOrQueue(own(f)) }

// writeOrQueue writes an item at once where that waits for nothing, and queues it where
// it would.
func (s *Session) writeOrQueue(it item) {
	if s.mayWriteOrQueue(it) {
		s.writeDirect(it)
	}
}

// mayWriteOrQueue queues an item, or returns true: then the caller is the writer.
func (s *Session) mayWriteOrQueue(it item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending != nil:
	case s.mayWriteDirect():
		s.writing = true
		return true
	default:
		s.push(it)
	}
	return false
}

// push queues an item and sees that a writer runs; mu is held.
func (s *Session) push(it item) bool {
	n := it.size()
	if s.overflowed(n) {
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
	if !s.ready || s.writing {
		return
	}
	s.writing = true
	if s.ending == nil && !s.reading && s.waitsForNothing() {
		s.b.writers.add(s)
		return
	}
	go s.newWriter().write()
}
