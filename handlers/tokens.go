package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// Authenticator makes a bridge.Authenticator of the token checker.
func Authenticator(t *auth.Tokens) bridge.Authenticator { return authenticator{t} }

type authenticator struct{ tokens *auth.Tokens }

func (a authenticator) Authenticate(ctx context.Context, token string) (bridge.Identity, error) {
	claims, err := a.tokens.Verify(ctx, token)
	if err != nil {
		return bridge.Identity{}, tokenFault(err)
	}
	return identity(claims)
}

// tokenFault tells a token that is wrong from keys that cannot be had just now:
// the one must not be tried again, the other should.
func tokenFault(err error) error {
	var t *auth.TokenError
	if errors.As(err, &t) && t.Reason == auth.TokenKeysUnavailable {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", bridge.ErrUnauthorized, err)
}

func (s *Server) authenticate(ctx context.Context, token string) (bridge.Identity, error) {
	return authenticator{s.o.Tokens}.Authenticate(ctx, token)
}

// identity reads claims as the domain understands them.
func identity(c auth.Claims) (bridge.Identity, error) {
	if !c.Expires.After(time.Now()) {
		// The checker's leeway, for clocks that differ, lets such a token pass;
		// its session would end as soon as it began.
		return bridge.Identity{}, fmt.Errorf("%w: the token has expired", bridge.ErrUnauthorized)
	}
	policy, err := bridge.ParsePolicy(c.Rights)
	if err != nil {
		return bridge.Identity{}, fmt.Errorf("%w: %w", bridge.ErrUnauthorized, err)
	}
	return bridge.Identity{User: c.User, TokenID: c.ID, Expires: c.Expires, Policy: policy}, nil
}

// ticket gives a bearer of a token something that may stand in a URL: good for
// one connection and a few seconds.
func (s *Server) ticket(c *fiber.Ctx) error {
	token, ok := bearerToken(c.Get(fiber.HeaderAuthorization))
	if !ok {
		return s.problem(c, wire.NewProblem(wire.CodeUnauthorized, "send the token as: Authorization: Bearer, a space, the token"))
	}
	claims, err := s.o.Tokens.Verify(c.UserContext(), token)
	if err != nil {
		return s.fromDomain(c, tokenFault(err))
	}
	if _, err = identity(claims); err != nil {
		return s.fromDomain(c, err)
	}
	ticket, expires, err := s.o.Tickets.Issue(claims)
	if err != nil {
		return s.problem(c, wire.NewProblem(wire.CodeRateLimited, "too many tickets wait to be used"))
	}
	body, err := json.Marshal(struct {
		Ticket    string `json:"ticket"`
		ExpiresAt string `json:"expiresAt"`
	}{ticket, wire.Time(expires)})
	if err != nil {
		return err
	}
	c.Status(fiber.StatusCreated)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Send(body)
}
