package handlers

import (
	"encoding/base64"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	headerKey     = "Sec-Websocket-Key" // as fasthttp spells names
	headerVersion = "Sec-Websocket-Version"
	// keyBytes is the length of a client's nonce (RFC 6455 §4.1).
	keyBytes = 16
	// socketVersion is the only version of the protocol that there is.
	socketVersion = "13"
)

// checkHandshake checks an opening handshake as RFC 6455 §4.2.1 wants it; its error is
// a wire.Problem. The upgrader itself checks little of it, and would answer every
// fault in the same way.
func checkHandshake(c *fiber.Ctx) error {
	malformed := func(detail string) error { return wire.NewProblem(wire.CodeMalformed, detail) }
	upgrade := func(detail string) error {
		c.Set(headerVersion, socketVersion)
		c.Set(fiber.HeaderConnection, "Upgrade") // what Upgrade must be named in (RFC 9110 §7.8)
		return wire.NewProblem(wire.CodeUpgradeRequired, detail)
	}
	h := &c.Request().Header
	switch {
	case c.Method() != fiber.MethodGet:
		c.Set(fiber.HeaderAllow, fiber.MethodGet)
		return wire.NewProblem(wire.CodeMethodNotAllowed, "a WebSocket handshake is a GET")
	case !hasToken(c, fiber.HeaderUpgrade, "websocket"):
		return upgrade(errUpgrade.Detail)
	case !h.IsHTTP11():
		return malformed("a WebSocket handshake is HTTP/1.1; a proxy in front may have made it HTTP/1.0")
	case !hasToken(c, fiber.HeaderConnection, "upgrade"):
		return upgrade("Connection: Upgrade is missing; a proxy in front may have taken it away, since it holds for one hop only")
	case h.ContentLength() > 0 || h.ContentLength() == -1: // -1: chunked
		return malformed("a WebSocket handshake has no body")
	}
	switch keys := h.PeekAll(headerKey); { // valid until the next PeekAll
	case len(keys) == 0:
		return malformed("Sec-WebSocket-Key is missing")
	case len(keys) > 1:
		return malformed("Sec-WebSocket-Key must be given once")
	case !isKey(string(keys[0])):
		return malformed("Sec-WebSocket-Key must be 16 bytes in base64")
	}
	if versions := h.PeekAll(headerVersion); len(versions) != 1 || string(versions[0]) != socketVersion {
		return upgrade("Sec-WebSocket-Version must be 13, given once")
	}
	// The upgrader reads only one line of each of these, which may be the wrong one.
	h.Set(fiber.HeaderConnection, "Upgrade")
	h.Set(fiber.HeaderUpgrade, "websocket")
	return nil
}

// isKey tells whether a Sec-WebSocket-Key is 16 bytes in base64, with padding.
func isKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == keyBytes
}

// hasToken looks for a token in a header that is a list, over all its lines
// (RFC 9110 §5.6.1); tokens have no case.
func hasToken(c *fiber.Ctx, header, token string) bool {
	for _, line := range c.Request().Header.PeekAll(header) {
		for t := range strings.SplitSeq(string(line), ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// handshake is what socket has found out and the upgraded connection needs. It holds
// copies only, since the request's memory is used again.
type handshake struct {
	remote  string
	plain   bool
	id      *bridge.Identity
	refused string // why the token was refused, where the client can only read a close code
}

// handshakeKey is the local under which socket leaves the handshake for upgrade.
const handshakeKey = "handshake"
