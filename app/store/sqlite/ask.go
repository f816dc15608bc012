package sqlite

import (
	"context"
	"errors"
	"fmt"

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

// settled returns once all that was asked before is in the file.
func (e *Store) settled(ctx context.Context) error {
	return e.do(ctx, func(*writer) error { return nil })
}

// reading runs f on one consistent state of the file, on which all that was
// asked before has had its effect.
func (e *Store) reading(ctx context.Context, f func(r *reader) error) error {
	if err := e.settled(ctx); err != nil {
		return err
	}
	return e.view(ctx, f)
}

// viewOf runs f on one consistent state of the file, which has all of a user's messages
// that were stored before, and all messages to all.
func (e *Store) viewOf(ctx context.Context, user string, f func(r *reader) error) error {
	if err := e.filled(ctx, user); err != nil {
		return err
	}
	return e.view(ctx, f)
}

// view runs f on one consistent state of the file, as of the last commit.
func (e *Store) view(ctx context.Context, f func(r *reader) error) error {
	r, err := e.readers.take(ctx)
	if err != nil {
		return err
	}
	defer e.readers.give(r)
	err = r.view(func() error { return f(r) })
	if err != nil && !errors.Is(err, bridge.ErrUnknown) {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return err
}
