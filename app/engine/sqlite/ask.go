package sqlite

import (
	"context"
	"errors"
	"slices"

	"hookbridge/app/bridge"
)

var errNoUser = errors.New("sqlite: an empty user id, or nobody to send to")

// ask puts a request to the writer and waits for its answer. After an error
// from the context or the queue the request belongs to whoever still has it.
func (e *Engine) ask(ctx context.Context, r *request) error {
	if err := e.enqueue(ctx, r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) enqueue(ctx context.Context, r *request) error {
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.queue.put(ctx, r)
}

// Append implements bridge.Engine. When the context ends first, the message may
// or may not be stored; the same id asks again.
func (e *Engine) Append(ctx context.Context, m *bridge.Message) (bridge.Receipt, error) {
	// One message that can never be written would fail the whole group.
	if to := m.To.Recipients(); !m.To.All && (len(to) == 0 || slices.Contains(to, "")) {
		return bridge.Receipt{}, errNoUser
	}
	r := newRequest(kindAppend)
	r.msg = m
	if err := e.ask(ctx, r); err != nil {
		return bridge.Receipt{}, err
	}
	receipt := r.receipt
	r.release()
	return receipt, nil
}

// Join implements bridge.Engine. Everybody who listens is in this process, so a
// session is present by being in the hub.
func (e *Engine) Join(ctx context.Context, m bridge.Member) (bridge.Standing, error) {
	if m.User == "" {
		return bridge.Standing{}, errNoUser
	}
	r := newRequest(kindJoin)
	r.user = m.User
	if err := e.ask(ctx, r); err != nil {
		return bridge.Standing{}, err
	}
	standing := r.standing
	r.release()
	return standing, nil
}

// Leave implements bridge.Engine.
func (e *Engine) Leave(context.Context, bridge.Member) error {
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	return nil
}

// Ack implements bridge.Engine. It counts for every Append, Join and Ack that is
// called after it has returned, and is durable within a second.
func (e *Engine) Ack(ctx context.Context, user string, p bridge.Position) error {
	if user == "" {
		return errNoUser
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
func (e *Engine) fanOut() {
	defer close(e.fanned)
	for group := range e.writer.fan {
		l := e.listener.Load()
		for _, r := range group {
			if r.fresh && l != nil {
				deliver(*l, r)
			}
			if r.kind == kindAck {
				r.release() // nobody waits for it
				continue
			}
			r.done <- struct{}{}
		}
	}
}

func deliver(l bridge.Listener, r *request) {
	if r.msg.To.All {
		r.receipt.Sessions = l.DeliverAll(bridge.Delivery{Message: r.msg, Broadcast: r.receipt.Broadcast})
		return
	}
	for i := range r.receipt.Recipients {
		to := &r.receipt.Recipients[i]
		to.Sessions = l.Deliver(to.User, bridge.Delivery{Message: r.msg, Mailbox: to.Seq})
		r.receipt.Sessions += to.Sessions
	}
}
