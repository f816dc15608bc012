package handlers

import (
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
