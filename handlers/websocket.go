package handlers

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const tooManyUnauthenticated = "too many connections from this address have not shown a token yet"

// socket refuses what can be refused before the upgrade. The upgrader itself would
// answer every refusal with 426.
func (s *Server) socket(c *fiber.Ctx) error {
	switch {
	case s.o.Bridge.Draining():
		return bridge.ErrDraining
	case tokenInQuery(c):
		return tokenInURL(howToSocket)
	}
	if err := checkHandshake(c); err != nil {
		return err
	}
	switch {
	case !s.originAllowed(c):
		return errOrigin
	case s.o.Bridge.Full():
		return wire.NewProblem(wire.CodeTooManyConnections, "this machine has all the sessions it may have")
	}
	h := &handshake{remote: s.clientAddress(c)}
	if s.unauthenticated.full(h.remote) {
		return wire.NewProblem(wire.CodeTooManyConnections, tooManyUnauthenticated)
	}
	offered := subprotocols(c)
	bearer, frames := splitSubprotocols(offered)
	if len(offered) > 0 && !frames {
		return wire.NewProblem(wire.CodeUnknownSubprotocol, "offer "+wire.Subprotocol+", or no subprotocol for the plain mode")
	}
	h.plain = !frames
	credentials, err := s.credentials(c, bearer)
	if err != nil {
		return err
	}
	if credentials != nil {
		id, err := credentials()
		switch {
		case err == nil:
			h.id = &id
		case frames && !errors.Is(err, bridge.ErrUnavailable):
			h.refused = err.Error()
		default:
			return err
		}
	}
	if frames {
		// The upgrader takes the choice from the reply's header. Only ours is
		// ever chosen: an echoed token would stand in every proxy's log.
		c.Set("Sec-WebSocket-Protocol", wire.Subprotocol)
	}
	c.Locals(handshakeKey, h)
	return c.Next()
}

// upgrade switches to WebSocket and takes the connection away from Fiber. The handler
// returns at once, which frees what the request held.
func (s *Server) upgrade() fiber.Handler {
	return websocket.New(func(ws *websocket.Conn) {
		h := ws.Locals(handshakeKey).(*handshake)
		c := newWSConn(ws.Conn.NetConn(), h.remote, s.sockets)
		// Counted here and not in socket: after socket the upgrade may still fail.
		left, ok := s.unauthenticated.enter(h.remote)
		conn := connectionOf(c.nc)
		leave := func() {
			left()
			c.stopCounting()
			if conn != nil {
				conn.becomeSession()
			}
		}
		if conn != nil {
			conn.becomeWebSocket()
			c.countUnauthenticated(s.bodies, conn)
			conn.share()
		}
		go func() {
			defer leave()
			defer s.surviveConnection(c)
			if !ok {
				s.o.Bridge.Refuse(c, wire.CloseOverloaded, tooManyUnauthenticated)
				return
			}
			s.accept(c, h, leave)
		}()
	}, websocket.Config{
		// What the upgrader allocates is garbage once the connection is ours.
		ReadBufferSize: 128, WriteBufferSize: 128,
		RecoverHandler: func(*websocket.Conn) {
			if recover() != nil { // recover works only here, not in a function called from here
				s.o.Guard.Caught("connection")
			}
		},
	})
}

func (s *Server) accept(c *wsConn, h *handshake, leave func()) {
	if h.refused != "" {
		s.o.Bridge.RefuseConnection(c, wire.CloseUnauthorized, h.refused)
		return
	}
	s.o.Bridge.Accept(c, bridge.Handshake{Plain: h.plain, Identity: h.id, Authenticated: leave})
}

// credentials finds the one token or ticket of a handshake and returns the function
// that checks it; nil without one. Its error is that there are several.
func (s *Server) credentials(c *fiber.Ctx, bearer []string) (check func() (bridge.Identity, error), err error) {
	var tokens []string
	tokens = append(tokens, bearer...)
	header, err := authorization(c)
	if err != nil {
		return nil, err
	}
	if header != "" {
		token, found := bearerToken(header)
		if !found {
			return func() (bridge.Identity, error) {
				return bridge.Identity{}, fmt.Errorf("%w: Authorization must be: Bearer, a space, the token", bridge.ErrUnauthorized)
			}, nil
		}
		tokens = append(tokens, token)
	}
	tickets := c.Context().QueryArgs().PeekMulti("ticket")
	switch {
	case len(tokens)+len(tickets) > 1:
		return nil, errSeveralTokens
	case len(tickets) == 1:
		ticket := string(tickets[0])
		return func() (bridge.Identity, error) { return s.redeem(c.UserContext(), ticket) }, nil
	case len(tokens) == 1:
		return func() (bridge.Identity, error) {
			return authenticator{s.o.Tokens}.Authenticate(c.UserContext(), tokens[0])
		}, nil
	}
	return nil, nil
}

// bearerToken reads an Authorization header (RFC 6750 §2.1) and copies the token.
func bearerToken(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", false
	}
	return strings.Clone(token), true
}

// subprotocols lists what the client offers, over all header lines.
func subprotocols(c *fiber.Ctx) []string {
	var out []string
	for _, line := range c.Request().Header.PeekAll("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(string(line), ",") {
			if p = strings.TrimSpace(p); p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

func splitSubprotocols(offered []string) (bearer []string, frames bool) {
	for _, p := range offered {
		if p == wire.Subprotocol {
			frames = true
		} else if token, ok := strings.CutPrefix(p, wire.BearerPrefix); ok {
			bearer = append(bearer, token)
		}
	}
	return bearer, frames
}
