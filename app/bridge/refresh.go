package bridge

import (
	"context"
	"errors"
	"fmt"

	"hookbridge/app/wire"
)

func (s *Session) refresh(token string) {
	if token == "" {
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, "token is missing"))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.ConnectTimeout)
	defer cancel()
	id, err := s.b.auth.Authenticate(ctx, token)
	switch {
	case errors.Is(err, ErrUnavailable): // the client may try again until its token expires
		s.refuse("", ProblemOf(err))
	case err != nil:
		s.finish(wire.CloseUnauthorized, truncate(err.Error()))
	case id.User != s.user:
		s.finish(wire.CloseForbidden, "the token is another user's")
	default:
		if err := s.renew(ctx, id); err != nil {
			if code, reason := endingOf(err); code != wire.CloseInternal {
				s.finish(code, reason)
				return
			}
			s.refuse("", ProblemOf(err)) // the client may try again
			return
		}
		s.reply(wire.Refreshed{ExpiresAt: wire.Time(id.Expires)}.Frame())
	}
}

// renew takes a newer token's identity, and the groups it names. Where the
// join fails, the session goes on with the token it had.
func (s *Session) renew(ctx context.Context, id Identity) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	s.mu.Lock()
	m := s.memberWith(&id)
	s.next = &id
	s.mu.Unlock()
	_, err := s.b.live.Join(ctx, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = nil
	if err != nil {
		if s.suspect {
			s.end(wire.CloseForbidden, ErrRevoked.Error(), false)
		}
		return fmt.Errorf("join: %w", err)
	}
	s.identity, s.suspect = id, false
	s.planExpiry()
	return nil
}
