package handlers

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

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
