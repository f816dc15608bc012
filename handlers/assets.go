package handlers

import (
	"mime"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hookbridge/handlers/web"
)

// pageSecurity is sent with every asset: no inline script or style, nothing
// from elsewhere, no framing.
const pageSecurity = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// clientPrefix begins the names of the JavaScript client's modules and of its bundle,
// which every bridge serves. The page's other files are served with the demo only.
const clientPrefix = "bridge"

func (s *Server) assetRoutes(r fiber.Router) {
	entries, err := web.Files.ReadDir(".")
	if err != nil { // the files are compiled in
		panic("handlers: " + err.Error())
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), clientPrefix) || s.o.Demo != nil {
			r.Get("/"+e.Name(), s.asset)
		}
	}
	if s.o.Demo != nil {
		r.Get("/", s.asset)
	}
}

// asset serves a file of the page or the client.
func (s *Server) asset(c *fiber.Ctx) error {
	name := strings.TrimPrefix(c.Path(), "/")
	if name == "" {
		name = "index.html"
	}
	b, err := web.Files.ReadFile(name)
	if err != nil {
		return fiber.ErrNotFound
	}
	c.Set(fiber.HeaderContentType, mime.TypeByExtension(path.Ext(name)))
	c.Set("Content-Security-Policy", pageSecurity)
	c.Set("X-Content-Type-Options", "nosniff")
	c.Set("Referrer-Policy", "no-referrer")
	c.Set(fiber.HeaderCacheControl, "no-cache")
	if strings.HasPrefix(name, clientPrefix) {
		// A page of another origin may import the client; it holds no secret.
		c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
	}
	return c.Send(b)
}
