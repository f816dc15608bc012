package sqlite

import (
	"maps"
	"slices"
	"sync"

	"hookbridge/app/bridge"
)

// ackBook holds acks, and when users were last seen, that are not written yet. An ack is
// first noted by the goroutine that brings it. The writer enters it before it carries out
// its next group, and at each tick: there it is cut to the head. What is entered counts at
// once, and is written within a second: many users at a time, and each user once however
// often they acked. Before an answer tells of an ack it is made durable (keepAcksTold).
type ackBook struct {
	// The writer's goroutine owns these.
	taken   *notes       // on their way into dirty; empty between groups, unless one failed
	batch   []string     // users whose turn it is to be written, in order of their rows
	writing []writtenAck // what the running transaction has
	resting int          // ticks until the next turn

	mu      sync.Mutex // guards what follows, which other goroutines use too
	noted   *notes
	dirty   map[string]dirt
	writes  uint64 // how often a commit has taken users off dirty
	durable uint64 // how many of these commits are known to be on the disk
	closed  bool   // nothing is noted any more
}

// notes are acks that the writer has not entered yet.
type notes struct {
	users []string // in the order of their first acks
	of    map[string]bridge.Position
}

func newNotes() *notes { return &notes{of: make(map[string]bridge.Position)} }

func (n *notes) add(user string, p bridge.Position) {
	was, again := n.of[user]
	if !again {
		n.users = append(n.users, user)
	}
	n.of[user] = was.Max(p)
}

// pop takes one off; false where there is none.
func (n *notes) pop() (user string, p bridge.Position, ok bool) {
	for len(n.users) > 0 && !ok {
		last := len(n.users) - 1
		user, n.users[last] = n.users[last], ""
		n.users = n.users[:last]
		p, ok = n.of[user] // not of a user who was forgotten
		delete(n.of, user)
	}
	return user, p, ok
}

// dirt is what of one user is not written yet.
type dirt struct {
	acked bridge.Position
	seen  int64 // Unix nanoseconds; 0: as it was
}

// writtenAck is what of a user's dirt a transaction has.
type writtenAck struct {
	user string
	dirt
}

func newAckBook() *ackBook {
	return &ackBook{taken: newNotes(), noted: newNotes(), dirty: make(map[string]dirt)}
}

// note takes an ack in. It counts for each request that is put into the writer's queue
// after that. Any goroutine may call it. Errors: bridge.ErrClosed, and bridge.ErrUnavailable
// where too many other users' acks wait.
func (b *ackBook) note(user string, p bridge.Position) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return bridge.ErrClosed
	}
	if len(b.noted.of)+len(b.dirty) >= dirtyLimit {
		_, noted := b.noted.of[user]
		_, entered := b.dirty[user]
		if !noted && !entered {
			return bridge.ErrUnavailable
		}
	}
	b.noted.add(user, p)
	return nil
}

// hasNotes reports whether acks wait to be entered.
func (b *ackBook) hasNotes() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.noted.of)+len(b.taken.of) > 0
}

// take returns the acks that were noted. The writer takes each off before it enters it;
// those that are left after a failure are there the next time.
func (b *ackBook) take() *notes {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.taken.of) == 0 {
		b.taken, b.noted = b.noted, b.taken
		return b.taken
	}
	for user, p, ok := b.noted.pop(); ok; user, p, ok = b.noted.pop() {
		b.taken.add(user, p)
	}
	return b.taken
}

// close lets no more acks in.
func (b *ackBook) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// of is what was entered of a user and is not written yet. Any goroutine may ask.
func (b *ackBook) of(user string) (d dirt, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok = b.dirty[user]
	return d, ok
}

// unwrittenOf are those of some users of whom something was entered and is not written yet.
// Any goroutine may ask.
func (b *ackBook) unwrittenOf(users []string) (unwritten []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, user := range users {
		if _, ok := b.dirty[user]; ok {
			unwritten = append(unwritten, user)
		}
	}
	return unwritten
}

// writtenSoFar is a number that grows when acks are taken off the book, because the file
// has them. Any goroutine may ask.
func (b *ackBook) writtenSoFar() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writes
}

// durableTo notes that the commits up to a number of writtenSoFar are on the disk. Any
// goroutine may call it.
func (b *ackBook) durableTo(writes uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable = max(b.durable, writes)
}

// areDurable reports whether the commits up to a number of writtenSoFar are on the disk.
// Any goroutine may ask.
func (b *ackBook) areDurable(writes uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.durable >= writes
}

func (b *ackBook) add(user string, p bridge.Position, seen int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dirty[user] = dirt{p, seen}
}

// tick begins a turn where the last one was long enough ago: after a pause at once.
func (b *ackBook) tick() {
	b.resting = max(b.resting-1, 0)
	if b.resting > 0 {
		return
	}
	if b.due(); b.pending() {
		b.resting = ticksATurn
	}
}

// due gives every user with an unwritten ack a turn.
func (b *ackBook) due() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.batch) == 0 && len(b.dirty) > 0 {
		b.batch = slices.Sorted(maps.Keys(b.dirty))
	}
}

func (b *ackBook) pending() bool { return len(b.batch) > 0 }

// saved notes that the running transaction has what is on the book of a user.
func (b *ackBook) saved(user string) {
	d, _ := b.of(user)
	b.writing = append(b.writing, writtenAck{user, d})
}

// written takes the acks of a transaction that succeeded off the book. A user who has acked
// more since stays on it: the transaction may have been open for many groups.
func (b *ackBook) written() {
	if len(b.writing) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.writing {
		if b.dirty[a.user] == a.dirt {
			delete(b.dirty, a.user)
		}
	}
	b.writing = b.writing[:0]
	b.writes++
}

// failed keeps them for the next turn.
func (b *ackBook) failed() {
	b.writing = b.writing[:0]
	b.batch = nil
}

// keepTo takes back what is not written of an ack, beyond a place.
func (b *ackBook) keepTo(user string, p bridge.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d, ok := b.dirty[user]; ok {
		d.acked = d.acked.Min(p)
		b.dirty[user] = d
	}
}

// forget drops what is not written of a user who is erased.
func (b *ackBook) forget(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.noted.of, user)
	delete(b.taken.of, user)
	delete(b.dirty, user)
	b.batch = slices.DeleteFunc(b.batch, func(u string) bool { return u == user })
}
