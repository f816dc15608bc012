package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// request is one piece of work for the writer: a function that runs in the
// transaction of a group, and what follows once that is in the file or has failed.
type request struct {
	// write runs in the transaction. An error ends the transaction and is the answer
	// to the whole group, unless it is a refusal.
	write func(*writer) error
	// after, where set, changes what is kept in memory. It runs on the writer's
	// goroutine once the request has succeeded and the transaction is in the file.
	after func(*writer)
	// tell, where set, lets the Hub know. It runs in the fan-out, after that.
	tell func(*Store, bridge.Hub)
	// failed, where set, is asked for the answer after the transaction has failed.
	failed func(*writer, error) error
	// onlyReads, where set, reports whether write will write nothing and reads no table that
	// others have changed in the open transaction: then the request needs no commit of that.
	onlyReads func(*writer) bool
	// size is how many places in mailboxes the request will take, and how many bytes
	// of payload, as far as is known; nil: one place.
	size func(*writer) (places, bytes int)

	bulk      bool // it waits in the lane for long work
	plain     bool // it may be carried out in the open transaction (see journaling.go)
	early     bool // it runs before the others of its group
	alone     bool // it has a transaction to itself, because the next requests must find what after changes
	needsRoom bool // it is refused while the disk is full

	err  error
	done chan struct{} // gets one value with the answer; nil: nobody waits for it
}

// refused answers one request and leaves the transaction of its group as it is. The
// request has written nothing.
type refused struct{ error }

// refuse makes a refusal of an error, and nothing of nil.
func refuse(err error) error {
	if err == nil {
		return nil
	}
	return refused{err}
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
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-q.closing:
		return bridge.ErrClosed
	case <-time.After(q.patience):
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
