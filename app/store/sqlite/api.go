package sqlite

import (
	"context"
	"errors"

	"hookbridge/app/bridge"
)

var errNoUser = errors.New("sqlite: an empty user id, or nobody to send to")

// ask puts a request to the writer and waits for its answer. After an error
// from the context or the queue the request may still be carried out.
func (e *Store) ask(ctx context.Context, r *request) error {
	if r.done == nil {
		r.done = make(chan struct{}, 1)
	}
	if err := e.enqueue(ctx, r); err != nil {
		return err
	}
	return r.answer(ctx)
}

// do has the writer run f in a transaction, and waits until that is in the file.
func (e *Store) do(ctx context.Context, f func(*writer) error) error {
	return e.ask(ctx, &request{write: f})
}

// answer waits for what has become of a request.
func (r *request) answer(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Store) enqueue(ctx context.Context, r *request) error {
	if err := e.usable(ctx); err != nil {
		return err
	}
	if r.bulk {
		return e.queue.putBulk(ctx, []*request{r})
	}
	return e.queue.put(ctx, r)
}

// usable is asked before anything is done.
func (e *Store) usable(ctx context.Context) error {
	if e.closed.Load() {
		return bridge.ErrClosed
	}
	return ctx.Err()
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
	return e.enqueue(ctx, &request{early: true, write: func(w *writer) error { return w.ack(user, p) }})
}
