package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// kind is what a request asks of the writer.
type kind uint8

const (
	kindAppend kind = iota
	kindClaim
	kindJoin
	kindAck
	kindProbe
	kindLeave
	kindSeen
	kindRecall
	kindRevoke
	kindMember
	kindErase
	kindScrub
	kindVacuum
	kindBarrier // nothing: its answer comes after all that was asked before
)

// request is one thing asked of the writer, and its answer once done has spoken.
type request struct {
	kind kind
	msg  *bridge.Message // append
	user string          // all but append
	pos  bridge.Position // ack

	member     bridge.Member     // join
	joined     bool              // join: the session was not there before
	abandoned  bool              // join: nobody waits for it; guarded by crowd.mu
	revocation bridge.Revocation // revoke
	name       string            // an event's id, a group, or leave's session
	session    string            // seen
	at         int64             // Unix nanoseconds; in scrub the row to go on from
	data       []byte            // leave: the trail
	yes        bool              // member: in or out; in answers: there is more to do
	notices    []bridge.Notice

	receipt  bridge.Receipt
	standing bridge.JoinState
	err      error
	fresh    bool // the Listener is to hear of msg

	done chan struct{} // one slot: nobody has to be there to take it
}

// unattended reports whether nobody waits for the answer.
func (r *request) unattended() bool {
	return r.kind == kindAck || r.kind == kindLeave || r.kind == kindSeen
}

// refuse makes err the answer: nothing of what was asked has been done.
func (r *request) refuse(err error) {
	r.fresh = false
	r.notices = nil
	r.receipt = bridge.Receipt{}
	r.err = err
}

var requests = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

func newRequest(k kind) *request {
	r := requests.Get().(*request)
	*r = request{kind: k, done: r.done}
	return r
}

// solitary tells a request that is alone in its transaction: when it is carried
// out, what memory knows changes before anything else is looked at.
func (r *request) solitary() bool { return r.kind == kindErase || r.kind == kindRevoke }

// release gives a request back; only for one whose answer has been taken or will
// never be sent.
func (r *request) release() {
	*r = request{done: r.done}
	requests.Put(r)
}

// queue holds what waits for the writer, in order.
type queue struct {
	slots    chan struct{} // one taken for each request that waits
	patience time.Duration
	wake     chan struct{}
	closing  chan struct{}

	bulkSlots chan struct{} // one taken for each caller whose long work waits

	mu      sync.Mutex // guards what follows
	waiting []*request
	bulk    [][]*request // of each such caller, in the order of their turns
	closed  bool
}

func newQueue(limit int, patience time.Duration) *queue {
	return &queue{
		slots:     make(chan struct{}, limit),
		bulkSlots: make(chan struct{}, limit),
		patience:  patience,
		wake:      make(chan struct{}, 1),
		closing:   make(chan struct{}),
	}
}

// put adds a request. While the queue is full it waits, no longer than the
// context and the queue's patience allow.
func (q *queue) put(ctx context.Context, r *request) error {
	if err := q.enter(ctx, q.slots); err != nil {
		return err
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		<-q.slots
		return bridge.ErrClosed
	}
	q.waiting = append(q.waiting, r)
	first := len(q.waiting) == 1
	q.mu.Unlock()
	if first {
		q.nudge()
	}
	return nil
}

// enter takes one of the slots.
func (q *queue) enter(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(q.patience)
	defer t.Stop()
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-q.closing:
		return bridge.ErrClosed
	case <-t.C:
		return fmt.Errorf("%w: %d requests have been waiting for it for %v", bridge.ErrUnavailable, cap(slots), q.patience)
	}
}

func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits, and whether more can come. The requests keep
// their slots until freed.
func (q *queue) take() (all []*request, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all, q.waiting = q.waiting, nil
	return all, !q.closed
}

func (q *queue) free(n int) {
	for range n {
		<-q.slots
	}
}

// depth is how many requests wait; one caller's long work counts as one.
func (q *queue) depth() int { return len(q.slots) + len(q.bulkSlots) }

// close lets nothing more in and reports whether this call was the one to do it.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	close(q.closing)
	q.nudge()
	return true
}
