package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// tokenFault tells a wrong token from keys that cannot be fetched at the moment: only the
// latter is worth trying again.
func tokenFault(err error) error {
	if t, ok := errors.AsType[*auth.TokenError](err); ok && t.Reason == auth.TokenKeysUnavailable {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", bridge.ErrUnauthorized, err)
}

// identity makes the domain's identity of a token's claims.
func identity(c auth.Claims) (bridge.Identity, error) {
	if !c.Expires.After(time.Now()) {
		// A ticket's token was checked earlier.
		return bridge.Identity{}, fmt.Errorf("%w: the token has expired", bridge.ErrUnauthorized)
	}
	policy, err := bridge.ParsePolicy(c.Rights)
	if err != nil {
		return bridge.Identity{}, fmt.Errorf("%w: %w", bridge.ErrUnauthorized, err)
	}
	return bridge.Identity{User: c.User, Token: c.Token, TokenID: c.ID, Issued: c.IssuedAt, Expires: c.Expires, Policy: policy}, nil
}

// bearer authenticates a request by its Authorization header. Errors:
// bridge.ErrUnauthorized, ErrRevoked, ErrUnavailable, errSeveralTokens.
func (s *Server) bearer(c *fiber.Ctx) (bridge.Identity, auth.Claims, error) {
	id, claims, err := s.verified(c)
	if err == nil {
		err = s.admit(c, id)
	}
	return id, claims, err
}

// authorization is the Authorization header, empty where there is none. Two of them are
// refused: a proxy in front may read the one, and the bridge the other.
func authorization(c *fiber.Ctx) (string, error) {
	if len(c.Request().Header.PeekAll(fiber.HeaderAuthorization)) > 1 {
		return "", errSeveralTokens
	}
	return c.Get(fiber.HeaderAuthorization), nil
}

// verified is bearer without asking the store whether the token was revoked: the session
// of a poll does that when it joins.
func (s *Server) verified(c *fiber.Ctx) (bridge.Identity, auth.Claims, error) {
	header, err := authorization(c)
	if err != nil {
		return bridge.Identity{}, auth.Claims{}, err
	}
	token, ok := bearerToken(header)
	if !ok {
		return bridge.Identity{}, auth.Claims{}, fmt.Errorf("%w: send it as: Authorization: Bearer, a space, the token", bridge.ErrUnauthorized)
	}
	claims, err := s.o.Tokens.Verify(c.UserContext(), token)
	if err != nil {
		return bridge.Identity{}, claims, tokenFault(err)
	}
	id, err := identity(claims)
	if err != nil {
		return id, claims, err
	}
	markAuthenticated(c)
	return id, claims, nil
}

// admit refuses a revoked token.
func (s *Server) admit(c *fiber.Ctx, id bridge.Identity) error {
	err := s.o.Bridge.Admit(c.UserContext(), id)
	if errors.Is(err, bridge.ErrRevoked) {
		s.auditRefusal(wire.CodeTokenRevoked, c, id)
	}
	return err
}

// ticket exchanges a token for a ticket, which may be in a URL: it is good for one
// connection and a few seconds.
func (s *Server) ticket(c *fiber.Ctx) error {
	_, claims, err := s.bearer(c)
	if err != nil {
		return err
	}
	ticket, expires, err := s.o.Tickets.Issue(c.UserContext(), claims)
	if errors.Is(err, auth.ErrTooManyTickets) {
		return wire.NewProblem(wire.CodeRateLimited, "too many tickets wait to be used")
	}
	if err != nil {
		return err
	}
	c.Status(fiber.StatusCreated)
	return s.json(c, struct {
		Ticket    string `json:"ticket"`
		ExpiresAt string `json:"expiresAt"`
	}{ticket, wire.Time(expires)})
}
