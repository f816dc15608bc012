package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"hookbridge/app/bridge"
)

var errNoUser = errors.New("sqlite: an empty user id, or nobody to send to")

// ask puts a request to the writer and waits for its answer. After an error
// from the context or the queue the request belongs to whoever still has it.
func (e *Store) ask(ctx context.Context, r *request) error {
	put := e.enqueue
	if r.places() >= bulkFrom {
		put = func(ctx context.Context, r *request) error { return e.askMany(ctx, []*request{r}) }
	}
	if err := put(ctx, r); err != nil {
		return err
	}
	return e.answer(ctx, r)
}

func (e *Store) answer(ctx context.Context, r *request) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Store) enqueue(ctx context.Context, r *request) error {
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.queue.put(ctx, r)
}

// Append implements bridge.Store. When the context ends first, the message may
// or may not be stored; the same id asks again.
func (e *Store) Append(ctx context.Context, m *bridge.Message) (bridge.Receipt, error) {
	r, err := newAppend(m)
	if err != nil {
		return bridge.Receipt{}, err
	}
	if err := e.ask(ctx, r); err != nil {
		return bridge.Receipt{}, err
	}
	receipt := r.receipt
	r.release()
	return receipt, nil
}

// newAppend refuses what can never be written, and would fail its whole group.
func newAppend(m *bridge.Message) (*request, error) {
	if to := m.To.Recipients(); !m.To.All && m.To.Group == "" && (len(to) == 0 || slices.Contains(to, "")) {
		return nil, errNoUser
	}
	r := newRequest(kindAppend)
	r.msg = m
	return r, nil
}

// Join implements bridge.Live.
func (e *Store) Join(ctx context.Context, m bridge.Member) (bridge.JoinState, error) {
	if m.User == "" {
		return bridge.JoinState{}, errNoUser
	}
	r := newRequest(kindJoin)
	r.user, r.member = m.User, m
	if err := e.ask(ctx, r); err != nil {
		e.crowd.abandon(r, m)
		return bridge.JoinState{}, err
	}
	standing := r.standing
	r.release()
	return standing, nil
}

// Leave implements bridge.Live.
func (e *Store) Leave(ctx context.Context, t bridge.DeliveryLog) error {
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	user, session := t.Member.User, t.Member.Session
	if !e.crowd.leave(t.Member) {
		return nil // Erase was there before
	}
	r := newRequest(kindLeave)
	r.user, r.name, r.at = user, session, nanos(t.Ended)
	if !t.Empty() {
		var err error
		if r.data, err = json.Marshal(t); err != nil {
			e.crowd.gone(user, session)
			return fmt.Errorf("keep a trail: %w", err)
		}
	}
	if err := e.enqueue(ctx, r); err != nil {
		e.crowd.gone(user, session)
		return err
	}
	return nil
}

// Ack implements bridge.Store. It counts for every Append, Join and Ack that is
// called after it has returned, and is durable within a second.
func (e *Store) Ack(ctx context.Context, user, life string, p bridge.Position) error {
	if user == "" {
		return errNoUser
	}
	if life != e.lives.name {
		end, err := e.LifeEnd(ctx, user, life)
		if err != nil {
			return err
		}
		p = p.Min(end)
	}
	if e.acks.full() {
		return bridge.ErrUnavailable
	}
	r := newRequest(kindAck)
	r.user, r.pos = user, p
	return e.enqueue(ctx, r)
}

// fanOut tells the Listener of what has been stored and answers the callers, in
// the order of the writer's groups, beside the writer.
func (e *Store) fanOut() {
	defer close(e.fanned)
	for group := range e.writer.fan {
		l := e.listener.Load()
		for _, r := range group {
			if l != nil {
				e.tell(*l, r)
			}
			if r.unattended() {
				r.release()
				continue
			}
			r.done <- struct{}{}
		}
	}
}

// tell lets the Listener know of what a request has done. A Listener that panics
// costs nobody else an answer; sessions that were to be told of a message read it
// from the store.
func (e *Store) tell(l bridge.Listener, r *request) {
	if e.opts.Guard.Run(whereFanOut, func() {
		if r.fresh {
			e.deliver(l, r)
		}
	}) {
		e.opts.Guard.Run(whereFanOut, func() { behind(l, r) })
	}
	for _, n := range r.notices {
		e.opts.Guard.Run(whereFanOut, func() { l.Notify(n) })
	}
}

// whereFanOut is what panics of the Listener are counted as.
const whereFanOut = "fan-out"

// behind has sessions read up to a message that they may not have been given.
func behind(l bridge.Listener, r *request) {
	if r.receipt.Broadcast != 0 {
		l.Behind("", bridge.Position{Broadcast: r.receipt.Broadcast})
	}
	for i := range r.receipt.Recipients {
		if to := &r.receipt.Recipients[i]; to.Seq != 0 {
			l.Behind(to.User, bridge.Position{Mailbox: to.Seq})
		}
	}
}

func (e *Store) deliver(l bridge.Listener, r *request) {
	d := bridge.Delivery{Message: r.msg}
	if r.msg.Stored() {
		d.Life = e.lives.name
	}
	if r.msg.To.All {
		d.Broadcast = r.receipt.Broadcast
		r.receipt.Sessions = l.DeliverAll(d)
		return
	}
	for i := range r.receipt.Recipients {
		to := &r.receipt.Recipients[i]
		d.Mailbox = to.Seq
		to.Sessions = l.Deliver(to.User, d)
		r.receipt.Sessions += to.Sessions
	}
}
