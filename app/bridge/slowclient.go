package bridge

import (
	"time"

	"hookbridge/app/wire"
)

// A slow client is one whose socket takes less than what its session has to write. Its
// session ends with 4498 when its queue overflows or when one write takes too long;
// what it did not get stays in the mailbox, and it resumes from its last cursor.
const (
	// maxQueueFrames and minQueueBytes bound what waits for one socket. The bytes are
	// more where the largest events are: see maxQueueBytes.
	maxQueueFrames = 1024
	minQueueBytes  = 1 << 20
	// writeTimeout is for one write to a socket (and for one call of the store or of
	// Live on behalf of a session). A large event has longer: see writeRate.
	writeTimeout = 10 * time.Second
	// writeRate, bytes a second, is the slowest peer that gets a large event: one
	// write has writeTimeout, and this much longer for what it has to carry.
	writeRate = 64 << 10
	// slowGrace is what the last write of a session that is ending may still take: it
	// lets a client that reads again get the close code.
	slowGrace = 5 * time.Second
)

// envelopeBytes bounds what the frame of an event has beside the event as its
// sender wrote it: its id, time, sender and cursor.
const envelopeBytes = 4 << 10

// maxQueueBytes is room for four of the largest events, and for minQueueBytes.
func (b *Bridge) maxQueueBytes() int {
	return max(minQueueBytes, 4*(b.cfg.MaxBytes+envelopeBytes))
}

// overflowed ends a session where its queue cannot take n bytes more; mu is held.
func (s *Session) overflowed(n int) bool {
	if len(s.queue) < maxQueueFrames && s.queued+n <= s.b.maxQueueBytes() {
		return false
	}
	s.b.metrics.overflows.Inc()
	s.end(wire.CloseSlow, "too slow: the queue overflowed; reconnect with the last cursor", false)
	return true
}

// fail ends a session whose socket did not take a write. What it did not get stays in
// the mailbox for its next connection.
func (w *writer) fail() {
	s := w.s
	w.broken = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(wire.CloseSlow, "the socket did not take a write in time", false)
}
