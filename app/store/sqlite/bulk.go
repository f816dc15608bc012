package sqlite

import (
	"context"

	"hookbridge/app/bridge"
)

// Long work (a batch, a message to many, a recall) does not stand in the queue
// before everybody else's: it waits in a lane of its own, of which each transaction
// takes a bounded share, from each caller in turn. So whatever is asked meanwhile
// waits for one share at most. What one caller asked goes in its order.
const (
	bulkFrom  = 64      // places: from here on a call is long work
	bulkShare = 500     // places in one transaction, one message's at least
	bulkBytes = 1 << 20 // payload in one transaction, one message at least
)

// places is how many places in mailboxes a request will take, as far as is known.
func (r *request) places() int {
	switch {
	case r.kind == kindRecall:
		return bulkFrom
	case r.kind != kindAppend:
		return 1
	case r.msg.To.Group != "":
		return groupPlaces
	}
	return max(1, len(r.msg.To.Users))
}

// askMany puts requests to the writer, which keeps their order. Where that is not
// possible, each has its error.
func (e *Store) askMany(ctx context.Context, rs []*request) error {
	places := 0
	for _, r := range rs {
		places += r.places()
	}
	if places < bulkFrom {
		for i, r := range rs {
			if err := e.enqueue(ctx, r); err != nil {
				for _, rest := range rs[i:] {
					rest.err = err
					rest.done <- struct{}{}
				}
				return nil
			}
		}
		return nil
	}
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.queue.putBulk(ctx, rs)
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

// takeBulk returns a share of the long work, and gives back the slots of callers
// of whom nothing is left.
func (q *queue) takeBulk(places func(*request) int) (share []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room, bytes := bulkShare, bulkBytes
	for len(q.bulk) > 0 && room > 0 && bytes > 0 {
		// Each caller in turn gives one request that is long itself, or some that
		// are short.
		rs := q.bulk[0]
		for turn := bulkFrom; len(rs) > 0 && turn > 0 && room > 0 && bytes > 0; rs = rs[1:] {
			n := places(rs[0])
			if len(share) > 0 && n > room {
				return share // it is the first one in the next share
			}
			turn, room = turn-n, room-n
			if rs[0].msg != nil {
				bytes -= len(rs[0].msg.Event)
			}
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
