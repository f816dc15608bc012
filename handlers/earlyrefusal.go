package handlers

import (
	"bytes"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/valyala/fasthttp"

	"hookbridge/app/wire"
)

// A request whose headers alone are enough to refuse it is answered before its body
// is read.

const (
	// overLimit is how many bytes of a refused body are read and dropped, beyond the
	// largest that is allowed, so that its sender reads the answer.
	overLimit = 1 << 20
	// fasthttpDiscards is how much of an unread body fasthttp reads and drops by
	// itself; behind a longer one it closes the connection.
	fasthttpDiscards = 256 << 10
)

// refusedEarly is a header that we set on a request to mark that its headers alone
// refuse it; the value says why. No client can send a header of this name.
const refusedEarly = "refused:early"

// Values of refusedEarly.
const (
	earlySignature = "signature"
	earlyTooLarge  = "too large"
)

// headerReceived is called by fasthttp for each request before it reads the body. A
// request that is refused by its headers is made to have no body, so that its handler
// runs, and answers, at once. Of every other body fasthttp reads one byte; the handler
// reads the rest as it comes, in readBody.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	length := h.ContentLength()
	if length == 0 || length == -2 { // no body
		return fasthttp.RequestConfig{MaxRequestBodySize: 1}
	}
	path := s.pathOf(h)
	why := ""
	if p := string(path); p == pathEvents || p == pathBatch {
		header := signatureHeader(func(name string) string { return headerValue(h, name) })
		if s.o.Bridge.Draining() || header.Check(s.now()) != nil {
			why = earlySignature
		}
	}
	// Most bodies are below every limit, so that their form need not be found twice.
	if why == "" && length > min(s.o.Bridge.MaxBytes(), maxRequestBytes) && length > s.limitOf(string(path), h) {
		why = earlyTooLarge
	}
	if why != "" {
		h.SetContentLength(0)
		h.Del(fiber.HeaderExpect)
		h.Set(refusedEarly, why)
		h.SetConnectionClose()
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: 1}
}

// pathOf is the path of a request as the router sees it, however its target is written:
// a target with a host or a fragment must not escape the early checks.
func (s *Server) pathOf(h *fasthttp.RequestHeader) []byte {
	uri, _ := s.routed(h.RequestURI())
	path, _, _ := bytes.Cut(uri, []byte("?"))
	if bytes.HasPrefix(path, []byte("/")) && !bytes.Contains(path, []byte("//")) && !bytes.Contains(path, []byte("#")) {
		return path
	}
	var u fasthttp.URI // the router parses with it too
	if err := u.Parse(nil, uri); err != nil {
		return path // the router refuses it
	}
	return u.PathOriginal()
}

// early is why the headers of a request refuse it; empty where they do not.
func early(h *fasthttp.RequestHeader) string { return utils.UnsafeString(h.Peek(refusedEarly)) }

// serve wraps the handling of every request: it marks the connection as busy, answers
// 413 where the headers announce too large a body, and has the connection linger where
// a body is left unread, so that its sender can read the answer.
func (s *Server) serve(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(rc *fasthttp.RequestCtx) {
		conn := connectionOf(rc.Conn())
		if conn != nil {
			conn.bodyRead, conn.requestAuthenticated = false, false
			conn.answering.Store(true)
			defer conn.answering.Store(false)
		}
		why := early(&rc.Request.Header)
		if why == earlyTooLarge {
			c := s.app.AcquireCtx(rc)
			_ = s.problem(c, s.announcedTooLarge(c)) // writing to memory does not fail
			s.app.ReleaseCtx(c)
		} else {
			next(rc)
		}
		if conn != nil {
			s.lingerAfter(conn, rc, why)
		}
	}
}

// announcedTooLarge is the problem of a request that no route has seen, since its headers
// announce too large a body. A page of another origin may read it where it may read the
// route's own replies.
func (s *Server) announcedTooLarge(c *fiber.Ctx) wire.Problem {
	h := &c.Request().Header
	path := string(s.pathOf(h))
	if strings.HasPrefix(path, pathAPI+"/") {
		if err := s.allowOrigin(c); err != nil {
			return errOrigin
		}
	}
	return tooLarge(s.limitOf(path, h))
}

// lingerAfter has the connection read and drop the rest of an unread body before it
// closes, where fasthttp will close it after the answer.
func (s *Server) lingerAfter(conn *connection, rc *fasthttp.RequestCtx, why string) {
	length := rc.Request.Header.ContentLength()
	unread := why != "" || !conn.bodyRead && (length > 0 || length == -1)
	if unread && length == -1 { // nobody knows where it ends
		rc.Response.Header.SetConnectionClose()
	}
	n := 0
	if unread && (length > fasthttpDiscards || rc.Response.Header.ConnectionClose() || rc.Request.Header.ConnectionClose()) {
		n = max(s.o.MaxBatchBytes, s.o.Bridge.MaxBytes()) + overLimit
	}
	conn.linger.Store(int64(n))
}
