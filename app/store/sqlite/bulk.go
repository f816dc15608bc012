package sqlite

import (
	"context"

	"hookbridge/app/bridge"
)

// Long work (a batch, a message to many, a recall) waits in a lane of its own, so
// that it does not hold up the short requests behind it. Each transaction takes a
// bounded share of that lane, from each caller in turn: a short request waits for
// one share at most. The requests of one caller keep their order.
const (
	bulkFrom  = 64      // places: from here on a call is long work
	bulkShare = 500     // places in one transaction, one message's at least
	bulkBytes = 1 << 20 // payload in one transaction, one message at least
)

// places is how many places in mailboxes a message will take, as far as is known
// before the writer has it.
func places(m *bridge.Message) int {
	if m.To.Group != "" {
		return groupPlaces
	}
	return max(1, len(m.To.Users))
}

// measure is the size of an append. A group is taken to be as large as it was last.
func (a *appending) measure(w *writer) (n, bytes int) {
	n, bytes = places(a.msg), len(a.msg.Event)
	if a.msg.To.Group == "" {
		return n, bytes
	}
	if members, ok := w.reach[a.msg.To.Group]; ok {
		n = max(1, members)
	}
	return n, bytes
}

// enqueueAll hands one caller's requests, which will take so many places, to the
// writer, which keeps their order. It returns how many the queue has taken, and why
// not all of them.
func (s *Store) enqueueAll(ctx context.Context, rs []*request, places int) (taken int, err error) {
	if places >= bulkFrom {
		if err := s.usable(ctx); err != nil {
			return 0, err
		}
		if err := s.queue.putBulk(ctx, rs); err != nil {
			return 0, err
		}
		return len(rs), nil
	}
	for i, r := range rs {
		if err := s.enqueue(ctx, r); err != nil {
			return i, err
		}
	}
	return len(rs), nil
}

// putBulk adds one caller's long work. While there is too much of that it waits,
// as put does.
func (q *queue) putBulk(ctx context.Context, rs []*request) error {
	if err := q.enter(ctx, q.bulkSlots); err != nil {
		return err
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		<-q.bulkSlots
		return bridge.ErrClosed
	}
	q.bulk = append(q.bulk, rs)
	q.mu.Unlock()
	q.nudge()
	return nil
}

// takeBulk returns a share of the long work. It frees the slots of the callers
// whose last request is in it.
func (q *queue) takeBulk(size func(*request) (places, bytes int)) (share []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room, bytes := bulkShare, bulkBytes
	for len(q.bulk) > 0 && room > 0 && bytes > 0 {
		// Each caller in turn gives one request that is long itself, or some that
		// are short.
		rs := q.bulk[0]
		for turn := bulkFrom; len(rs) > 0 && turn > 0 && room > 0 && bytes > 0; rs = rs[1:] {
			n, payload := size(rs[0])
			if len(share) > 0 && n > room {
				return share // it is the first one in the next share
			}
			turn, room, bytes = turn-n, room-n, bytes-payload
			share = append(share, rs[0])
			q.bulk[0] = rs[1:]
		}
		q.bulk = q.bulk[1:]
		if len(rs) > 0 {
			q.bulk = append(q.bulk, rs)
		} else {
			<-q.bulkSlots
		}
	}
	return share
}
