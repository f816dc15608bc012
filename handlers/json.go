package handlers

import (
	"errors"
	"mime"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// json replies with v. What came as JSON must not be a part of it; see wire.Encode.
func (s *Server) json(c *fiber.Ctx, v any) error {
	return s.jsonBytes(c, wire.Encode(v))
}

func (s *Server) jsonBytes(c *fiber.Ctx, b []byte) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Send(b)
}

// announcesJSON refuses a request whose headers say that its body is something else than
// plain JSON.
func announcesJSON(c *fiber.Ctx) error {
	if encoded(&c.Request().Header) {
		return errEncoded
	}
	if media, _, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType)); err != nil || media != fiber.MIMEApplicationJSON {
		return errNotJSON
	}
	return nil
}

// readJSON reads a request's JSON object. Names it does not know are ignored.
func (s *Server) readJSON(c *fiber.Ctx, into any) error {
	if err := announcesJSON(c); err != nil {
		return err
	}
	body, err := s.readBody(c, maxRequestBytes)
	if err != nil {
		return err
	}
	err = wire.Decode(body, into)
	if bad, ok := errors.AsType[*wire.DecodeError](err); ok && !bad.Syntax {
		return &bridge.RequestError{Detail: bad.Detail} // invalid_request, since there is no event
	}
	return err
}
