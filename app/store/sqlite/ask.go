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
func (s *Store) ask(ctx context.Context, r *request) error {
	if r.done == nil {
		r.done = make(chan struct{}, 1)
	}
	if err := s.enqueue(ctx, r); err != nil {
		return err
	}
	return r.answer(ctx)
}

// do has the writer run f in a transaction, and waits until that is in the file.
func (s *Store) do(ctx context.Context, f func(*writer) error) error {
	return s.ask(ctx, &request{write: f})
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

func (s *Store) enqueue(ctx context.Context, r *request) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if r.bulk {
		return s.queue.putBulk(ctx, []*request{r})
	}
	return s.queue.put(ctx, r)
}

// usable is asked before anything is done.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return bridge.ErrClosed
	}
	return ctx.Err()
}

// settled returns once all that was asked before is in the file.
func (s *Store) settled(ctx context.Context) error {
	return s.do(ctx, func(*writer) error { return nil })
}

// reading runs f on one consistent state of the file, on which all that was
// asked before has had its effect.
func (s *Store) reading(ctx context.Context, f func(r *reader) error) error {
	if err := s.settled(ctx); err != nil {
		return err
	}
	return s.view(ctx, f)
}

// viewOf runs f on one consistent state of the file, which has all of a user's messages
// that were stored before, and all messages to all.
func (s *Store) viewOf(ctx context.Context, user string, f func(r *reader) error) error {
	if err := s.filled(ctx, user); err != nil {
		return err
	}
	return s.view(ctx, f)
}

// view runs f on one consistent state of the file, as of the last commit.
func (s *Store) view(ctx context.Context, f func(r *reader) error) error {
	r, err := s.readers.take(ctx)
	if err != nil {
		return err
	}
	defer s.readers.give(r)
	err = r.view(func() error { return f(r) })
	if err != nil && !errors.Is(err, bridge.ErrUnknown) {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return err
}
