package handlers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// Proxies and browsers log URLs. A token in one is therefore refused; a ticket, good for
// one connection and a few seconds, is accepted.

// tokenInURL refuses a token in a URL and says how else to send it.
func tokenInURL(how string) wire.Problem {
	return wire.NewProblem(wire.CodeTokenInURL, "URLs end up in logs: bring the token "+how)
}

const (
	howToSocket = "in the connect frame, in an Authorization header, as a bearer. subprotocol, or as a ticket from POST /v1/tickets"
	howToStream = "in an Authorization header, or, where a browser's EventSource can send none, bring ?ticket= with a new ticket from POST /v1/tickets for each connection"
	howToCall   = "in an Authorization header"
)

// noTokenInURL is the middleware of all calls that take a token.
func (s *Server) noTokenInURL(c *fiber.Ctx) error {
	if !tokenInQuery(c) {
		return c.Next()
	}
	if c.Path() == pathStream {
		return tokenInURL(howToStream)
	}
	return tokenInURL(howToCall)
}

// tokenInQuery finds a token in the URL: under a name that tokens go by, or a
// value that looks like a JWT under any name.
func tokenInQuery(c *fiber.Ctx) bool {
	found := false
	for key, value := range c.Context().QueryArgs().All() {
		switch strings.ToLower(string(key)) {
		case "token", "access_token", "jwt", "bearer", "authorization":
			found = true
		}
		if strings.HasPrefix(string(value), "eyJ") && strings.Count(string(value), ".") == 2 {
			found = true
		}
	}
	return found
}

// redeem exchanges a ticket for the identity of the token it was issued for. Errors:
// bridge.ErrUnauthorized, ErrUnavailable.
func (s *Server) redeem(ctx context.Context, ticket string) (bridge.Identity, error) {
	claims, err := s.o.Tickets.Redeem(ctx, ticket)
	if errors.Is(err, auth.ErrTicket) {
		return bridge.Identity{}, fmt.Errorf("%w: %w", bridge.ErrUnauthorized, err)
	}
	if err != nil {
		return bridge.Identity{}, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return identity(claims)
}

// streamer authenticates the caller of a stream, by token or by ticket. Errors: those of
// bearer, and errSeveralTokens.
func (s *Server) streamer(c *fiber.Ctx) (bridge.Identity, error) {
	tickets := c.Context().QueryArgs().PeekMulti("ticket")
	switch {
	case len(tickets) == 0:
		id, _, err := s.bearer(c)
		return id, err
	case len(tickets) > 1 || c.Get(fiber.HeaderAuthorization) != "":
		return bridge.Identity{}, errSeveralTokens
	}
	id, err := s.redeem(c.UserContext(), string(tickets[0]))
	if err != nil {
		return bridge.Identity{}, err
	}
	return id, s.admit(c, id)
}
