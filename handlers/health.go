package handlers

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

// contract serves one of the API's descriptions, which pages of any origin may read.
func (s *Server) contract(doc []byte) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
		return c.Send(doc)
	}
}

func (s *Server) livez(c *fiber.Ctx) error { return c.SendString("ok\n") }

// readyTimeout bounds the check of the store.
const readyTimeout = 2 * time.Second

func (s *Server) readyz(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := s.o.Bridge.Check(ctx); err != nil {
		return err
	}
	return c.SendString("ok\n")
}
