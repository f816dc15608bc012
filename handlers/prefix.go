package handlers

import (
	"bytes"
	"errors"
	"strings"

	"hookbridge/app/wire"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// CheckPathPrefix reports what is wrong with a path prefix.
func CheckPathPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(prefix, "/"), "/") {
		if !strings.HasPrefix(prefix, "/") || segment == "" || segment == "." || segment == ".." || !wire.Alphanumeric(segment, "-_.") {
			return errors.New("it begins with / and does not end with one, and has letters, digits, hyphens, dots and underscores: /bridge")
		}
	}
	return nil
}

// unprefixed are the paths that are also served without the prefix: probes and scrapers
// ask the machine directly and not through the balancer.
var unprefixed = [][]byte{[]byte("/livez"), []byte("/readyz"), []byte("/metrics")}

// routed is a request's path and query without the prefix, as the route table has it. ok
// is false where the prefix is missing.
func (s *Server) routed(uri []byte) (path []byte, ok bool) {
	if s.o.PathPrefix == "" {
		return uri, true
	}
	if i := bytes.Index(uri, []byte("://")); i > 0 && uri[0] != '/' { // absolute form (RFC 9112 §3.2.2)
		_, path, _ := bytes.Cut(uri[i+len("://"):], []byte("/"))
		uri = append([]byte("/"), path...)
	}
	if rest, found := bytes.CutPrefix(uri, []byte(s.o.PathPrefix)); found && len(rest) > 0 && rest[0] == '/' {
		return rest, true
	}
	bare, _, _ := bytes.Cut(uri, []byte("?"))
	for _, p := range unprefixed {
		if bytes.Equal(bare, p) {
			return uri, true
		}
	}
	return uri, false
}

// prefixed removes the prefix before the request is routed.
func (s *Server) prefixed(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	if s.o.PathPrefix == "" {
		return next
	}
	return func(rc *fasthttp.RequestCtx) {
		path, ok := s.routed(rc.RequestURI())
		if !ok {
			c := s.app.AcquireCtx(rc)
			defer s.app.ReleaseCtx(c)
			_ = s.onError(c, fiber.ErrNotFound) // writing to memory does not fail
			return
		}
		rc.Request.SetRequestURIBytes(append([]byte(nil), path...))
		next(rc)
	}
}
