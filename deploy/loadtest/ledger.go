package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkMessages = 1 << 14
	maxChunks     = 1 << 14 // 268 million messages: days of a soak
	numberDigits  = 10
)

// ledger keeps account of every message of one run by its number, which travels in the message's data.
// A random name of the run keeps messages of earlier runs, which a server may still hold, out of it.
type ledger struct {
	began  time.Time
	name   string
	marker []byte // stands before the number in a message
	next   atomic.Int64
	chunks [maxChunks]atomic.Pointer[[chunkMessages]message]

	accepted, failed           atomic.Int64 // publishes
	owed                       atomic.Int64 // deliveries that the accepted ones make
	delivered                  atomic.Int64 // messages, each once for each session that it was for
	doubled, disordered, stray atomic.Int64
	gaps                       atomic.Int64

	trouble sync.Once
	failure atomic.Pointer[error] // the first failed publish
}

// message is what is known of one message. Times are nanoseconds since the ledger began; 0: not yet.
type message struct {
	due        atomic.Int64 // when it should have been sent
	sent       atomic.Int64 // when it was
	answered   atomic.Int64 // when the server had taken responsibility
	first      atomic.Int64 // first delivery
	last       atomic.Int64 // last delivery that was not a repetition
	want       atomic.Int32 // sessions that it is for
	deliveries atomic.Int32 // sessions that it has reached
}

// receiver is what one user's session has got; it lives on when the session comes back. Only the
// goroutine that reads the session writes it.
type receiver struct {
	lastAt     atomic.Int64 // when it got its last message; for others to read
	latestSent int64        // when the latest sent of all its messages was sent
	seen       []uint64     // a bit for each number; only in scenarios with messages to all
}

func newLedger() *ledger {
	name := rand.Text()[:8]
	return &ledger{began: time.Now(), name: name, marker: []byte(`"loadtest":"` + name + `-`)}
}

func (l *ledger) now() int64 { return int64(time.Since(l.began)) }

// number gives a new message its number. due is when it should be sent.
func (l *ledger) number(want int, due int64) (int64, *message) {
	n := l.next.Add(1) - 1
	slot := &l.chunks[n/chunkMessages]
	if slot.Load() == nil {
		slot.CompareAndSwap(nil, new([chunkMessages]message))
	}
	m := &slot.Load()[n%chunkMessages]
	m.want.Store(int32(want))
	m.due.Store(due)
	return n, m
}

// at is the message of a number, nil for one that was never given.
func (l *ledger) at(n int64) *message {
	if n < 0 || n >= l.next.Load() {
		return nil
	}
	chunk := l.chunks[n/chunkMessages].Load()
	if chunk == nil {
		return nil
	}
	return &chunk[n%chunkMessages]
}

// data is a message's data: its number, and text up to the size.
func (l *ledger) data(buf []byte, n int64, size int) []byte {
	from := len(buf)
	buf = fmt.Appendf(buf, `{"loadtest":"%s-%0*d","text":"`, l.name, numberDigits, n)
	for len(buf)-from < size-2 {
		buf = append(buf, "Your parcel has left the warehouse. "[:min(36, size-2-(len(buf)-from))]...)
	}
	return append(buf, `"}`...)
}

// numberIn finds a message's number in a frame.
func (l *ledger) numberIn(frame []byte) (int64, bool) {
	i := bytes.Index(frame, l.marker)
	if i < 0 || len(frame) < i+len(l.marker)+numberDigits {
		return 0, false
	}
	digits := frame[i+len(l.marker):][:numberDigits]
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return n, err == nil
}

// received records a frame with an event.
func (l *ledger) received(r *receiver, frame []byte) {
	n, ok := l.numberIn(frame)
	m := l.at(n)
	if !ok || m == nil {
		l.stray.Add(1)
		return
	}
	at := l.now()
	if !r.isNew(n, m) {
		l.doubled.Add(1)
		return
	}
	// A message that was answered before another was sent stands before that other in the mailbox.
	if answered := m.answered.Load(); answered != 0 && answered < r.latestSent {
		l.disordered.Add(1)
	}
	r.latestSent = max(r.latestSent, m.sent.Load())
	m.first.CompareAndSwap(0, at)
	for {
		last := m.last.Load()
		if at <= last || m.last.CompareAndSwap(last, at) {
			break
		}
	}
	r.lastAt.Store(at)
	l.delivered.Add(1)
}

// isNew counts a delivery, and reports whether this session has it for the first time. A message to one
// user has one session alone, so that its own counter tells.
func (r *receiver) isNew(n int64, m *message) bool {
	if m.want.Load() == 1 {
		return m.deliveries.Add(1) == 1
	}
	word, bit := int(n/64), uint64(1)<<(n%64)
	for len(r.seen) <= word {
		r.seen = append(r.seen, 0)
	}
	if r.seen[word]&bit != 0 {
		return false
	}
	r.seen[word] |= bit
	m.deliveries.Add(1)
	return true
}

// fail keeps the first reason why a publish failed.
func (l *ledger) fail(err error) {
	l.failed.Add(1)
	l.trouble.Do(func() { l.failure.Store(&err) })
}

// lost counts deliveries that accepted messages should have made and have not.
func (l *ledger) lost() (total int64) {
	for n := range l.next.Load() {
		if m := l.at(n); m != nil && m.answered.Load() != 0 {
			total += max(0, int64(m.want.Load()-m.deliveries.Load()))
		}
	}
	return total
}

// accept records that the server has taken responsibility for a message.
func (l *ledger) accept(m *message) {
	m.answered.Store(l.now())
	l.accepted.Add(1)
	l.owed.Add(int64(m.want.Load()))
}

// settled reports whether everything that was accepted has arrived. lost looks at each message, so that it
// is asked only when the sums say that all may be there.
func (l *ledger) settled() bool { return l.delivered.Load() >= l.owed.Load() && l.lost() == 0 }

// latencies are, of each accepted message with number from or above, the nanoseconds from when it was due
// to the answer, to its first and to its last delivery.
func (l *ledger) latencies(from int64) (answered, first, last []int64) {
	for n := from; n < l.next.Load(); n++ {
		m := l.at(n)
		if m == nil || m.answered.Load() == 0 {
			continue
		}
		due := m.due.Load()
		answered = append(answered, m.answered.Load()-due)
		if m.first.Load() != 0 {
			first = append(first, m.first.Load()-due)
			last = append(last, m.last.Load()-due)
		}
	}
	return answered, first, last
}
