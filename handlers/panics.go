package handlers

import (
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// catchPanics is the middleware that answers 500 where a handler panics. The panic's
// value may hold anything and is left out of the log.
func (s *Server) catchPanics(c *fiber.Ctx) (err error) {
	defer func() {
		if recover() != nil {
			s.o.Guard.Caught("request", "method", c.Method(), "route", c.Route().Path)
			err = errInternal
		}
	}()
	return c.Next()
}

// surviveConnection, deferred, keeps a panic in one connection from ending the program:
// it closes that connection with 1011.
func (s *Server) surviveConnection(c bridge.Conn) {
	if recover() == nil {
		return
	}
	s.o.Guard.Caught("connection")
	if s.o.Guard.Run("connection", func() {
		c.WriteClose(wire.CloseInternal, "the bridge failed", time.Now().Add(closeTimeout))
	}) {
		s.o.Guard.Run("connection", c.Abort)
	}
}

// closeTimeout is how long the peer of a connection that panicked has to read why.
const closeTimeout = 2 * time.Second

// guardEdge catches panics in what the HTTP server calls outside of Fiber's routes.
func (s *Server) guardEdge(h *fasthttp.Server) {
	handle, fail, header := h.Handler, h.ErrorHandler, h.HeaderReceived
	h.Handler = func(rc *fasthttp.RequestCtx) {
		if s.o.Guard.Run("request", func() { handle(rc) }) {
			s.broken(rc)
		}
	}
	h.ErrorHandler = func(rc *fasthttp.RequestCtx, err error) {
		if s.o.Guard.Run("request", func() { fail(rc, err) }) {
			s.broken(rc)
		}
	}
	h.HeaderReceived = func(rh *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
		s.o.Guard.Run("request", func() { c = header(rh) })
		return c
	}
}

// broken answers 500 to a request whose handling panicked outside of Fiber's routes.
func (s *Server) broken(rc *fasthttp.RequestCtx) {
	rc.Response.Reset()
	rc.SetStatusCode(fiber.StatusInternalServerError)
	rc.SetContentType(wire.ProblemMediaType)
	rc.SetBody(errInternal.JSON())
}
