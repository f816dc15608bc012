package handlers

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/valyala/fasthttp"

	"hookbridge/app/wire"
)

const (
	// firstBodyBytes is what a body gets at first. Most events fit. It is not
	// counted: the limit of connections bounds it.
	firstBodyBytes = 4 << 10
	// maxUnverified bounds the bytes of all bodies together whose signature or
	// token is not checked yet, where GOMEMLIMIT does not; see newBodies.
	maxUnverified = 64 << 20
	// overLimit is how much of a body that was refused is read away, beyond the
	// largest that is allowed, so that its sender reads the answer.
	overLimit = 1 << 20
	// fasthttpDiscards is what fasthttp reads away by itself of a body that nobody
	// has read; of a longer one it closes the connection.
	fasthttpDiscards = 256 << 10
)

// refusedEarly is a request header that marks a request whose headers alone are
// enough to refuse it; its value says why. No client can send a name like this.
const refusedEarly = "refused:early"

// Values of refusedEarly.
const (
	earlySignature = "signature"
	earlyTooLarge  = "too large"
)

// headerReceived is asked for each request before its body is read. A request
// that its headers alone refuse loses its body here, so that the handler, and
// with it the answer, need not wait for it. Of every other body fasthttp reads one
// byte, and the handler the rest, as it comes: readBody.
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
	if why == "" && length > s.limitOf(string(path), h) {
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

// pathOf is the path of a request as it is routed, however its target is written:
// one with a host or a fragment in it must not get its body read first.
func (s *Server) pathOf(h *fasthttp.RequestHeader) []byte {
	uri, _ := s.routed(h.RequestURI())
	path, _, _ := bytes.Cut(uri, []byte("?"))
	if bytes.HasPrefix(path, []byte("/")) && !bytes.Contains(path, []byte("//")) && !bytes.Contains(path, []byte("#")) {
		return path
	}
	var u fasthttp.URI // what the router reads it with
	if err := u.Parse(nil, uri); err != nil {
		return path // the router refuses it
	}
	return u.PathOriginal()
}

// early tells why a request was refused by its headers; empty where it was not.
func early(h *fasthttp.RequestHeader) string { return utils.UnsafeString(h.Peek(refusedEarly)) }

// bodyBudget bounds the bytes of all bodyBudget that are being read and not verified.
// Where there are too many, the body that has been coming for longest is given
// up: an honest one is here within a moment.
type bodyBudget struct {
	max           int // bytes in all
	maxPerAddress int

	mu        sync.Mutex // guards what follows, and each body's size and given
	size      int
	byAddress map[string]int
	reading   []*bodyUse // oldest first
	burst     burstGC
}

// bodyUse is one that is being read.
type bodyUse struct {
	address string
	conn    *connection // nil: it cannot be interrupted
	size    int
	evicted error // why it was given up: errBodiesFull or errAddressBodies
	done    bool  // it is no longer counted
}

var (
	errBodiesFull    = errors.New("too many bytes of requests are coming at once")
	errAddressBodies = errors.New("too many bytes of requests are coming from this address at once")
	errBodyTooLarge  = errors.New("the body is larger than allowed")
)

// newBodyBudget allows a fifth of GOMEMLIMIT in all, where that is set, and at least
// two of the largest bodies; half of it to one address, which may be a proxy's. A
// body in chunks gets one byte more than it may have, which shows that it is too
// large.
func newBodyBudget(largest int) *bodyBudget {
	limit := max(2*(largest+1), int(min(debug.SetMemoryLimit(-1)/5, maxUnverified)))
	return &bodyBudget{max: limit, maxPerAddress: limit / 2, burst: burstGC{least: burstBytes}, byAddress: make(map[string]int)}
}

// grow counts n more bytes of a body. Its error says why the body is given up.
func (bs *bodyBudget) grow(b *bodyUse, n int) error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if b.evicted != nil || b.done {
		return b.evicted
	}
	if b.size == 0 {
		bs.reading = append(bs.reading, b)
	}
	b.size += n
	bs.size += n
	bs.burst.grew(bs.size)
	bs.byAddress[b.address] += n
	for i := 0; i < len(bs.reading) && bs.byAddress[b.address] > bs.maxPerAddress; {
		if old := bs.reading[i]; old.address == b.address {
			bs.evict(old, errAddressBodies)
		} else {
			i++
		}
	}
	for bs.size > bs.max {
		bs.evict(bs.reading[0], errBodiesFull)
	}
	return b.evicted
}

// evict takes a body off the count and makes its reader stop; mu is held.
func (bs *bodyBudget) evict(b *bodyUse, why error) {
	b.evicted = why
	bs.uncount(b)
	if b.conn != nil {
		// An error means that the connection is gone, and the read with it.
		_ = b.conn.SetReadDeadline(longAgo)
	}
}

// done takes a body off the count, and returns why it was given up, if it was.
func (bs *bodyBudget) done(b *bodyUse) error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if b.evicted == nil && b.size > 0 {
		bs.uncount(b)
	}
	b.done = true
	return b.evicted
}

// evicted tells why a body was given up; nil where it was not.
func (bs *bodyBudget) evicted(b *bodyUse) error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return b.evicted
}

func (bs *bodyBudget) uncount(b *bodyUse) {
	for i, c := range bs.reading {
		if c == b {
			bs.reading = append(bs.reading[:i], bs.reading[i+1:]...)
			break
		}
	}
	bs.size -= b.size
	if bs.byAddress[b.address] -= b.size; bs.byAddress[b.address] <= 0 {
		delete(bs.byAddress, b.address)
	}
	b.size = 0
	bs.burst.shrank(bs.size)
}

// readBody reads a request's body of at most limit bytes into memory of its own,
// which grows with what arrives. Any error is a *bodyError, after which the
// connection serves no other request.
func (s *Server) readBody(c *fiber.Ctx, limit int) ([]byte, error) {
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return bytes.Clone(c.Request().Body()), nil // a request without a body, or a test's
	}
	conn := connectionOf(c.Context().Conn())
	if conn != nil { // whoever does not send on may have to make room
		conn.answering.Store(false)
		defer conn.answering.Store(true)
	}
	r := bodyReader{bodies: s.bodies, limit: limit, length: c.Request().Header.ContentLength(),
		conn: conn, server: s, request: c}
	b, err := r.read(stream)
	if err != nil {
		c.Response().Header.SetConnectionClose()
		e := &bodyError{err, limit}
		if e.hungUp() {
			c.Locals(hungUpKey, true)
		}
		return nil, e
	}
	if conn != nil {
		conn.bodyRead = true
	}
	return b, nil
}

// bodyReader reads one body.
type bodyReader struct {
	bodies  *bodyBudget
	limit   int
	length  int // as announced; -1: in chunks
	conn    *connection
	body    *bodyUse // nil while it is too small to be counted
	counted int      // bytes that bodies was told of

	server  *Server
	request *fiber.Ctx // whose body it is
}

// address is the sender's, as limits count it.
func (r *bodyReader) address() string {
	if r.request == nil {
		return "" // of no request, but of bytes
	}
	return clientNetwork(r.server.clientAddress(r.request))
}

func (r *bodyReader) read(stream io.Reader) (b []byte, err error) {
	most := r.length
	if r.length < 0 {
		most = r.limit + 1 // one more shows that it is too large
	}
	if r.length > r.limit {
		return nil, errBodyTooLarge
	}
	b = make([]byte, 0, min(most, firstBodyBytes))
	for err == nil && len(b) < most {
		if len(b) == cap(b) {
			if b, err = r.enlarge(b, min(most, 4*cap(b))); err != nil {
				break
			}
		}
		var n int
		n, err = stream.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
	}
	if r.body != nil {
		if given := r.bodies.done(r.body); given != nil {
			return nil, given
		}
	}
	switch {
	case len(b) > r.limit:
		return nil, errBodyTooLarge
	case err == io.EOF && r.length >= 0 && len(b) < r.length:
		return nil, io.ErrUnexpectedEOF
	case err == io.EOF || err == nil:
		return b, nil
	}
	return nil, err
}

// enlarge moves what has come into memory of another size, if there may be so
// much.
func (r *bodyReader) enlarge(b []byte, size int) ([]byte, error) {
	if r.body == nil {
		r.body = &bodyUse{address: r.address(), conn: r.conn}
	}
	more := size - r.counted
	r.counted = size
	if err := r.bodies.grow(r.body, more); err != nil {
		return b, err
	}
	return append(make([]byte, 0, size), b...), nil
}

// bodyError is a request's body that could not be read.
type bodyError struct {
	err   error
	limit int // bytes that were allowed
}

func (e *bodyError) Error() string { return "read the body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// hungUp reports whether the sender is gone, so that nobody waits for an answer.
func (e *bodyError) hungUp() bool {
	var n net.Error
	return errors.As(e.err, &n) && !n.Timeout() || errors.Is(e.err, io.ErrUnexpectedEOF)
}

// Problem is what the sender is told.
func (e *bodyError) Problem() wire.Problem {
	var timeout net.Error
	switch {
	case errors.Is(e.err, errBodyTooLarge):
		return tooLarge(e.limit)
	case errors.Is(e.err, errAddressBodies):
		return wire.NewProblem(wire.CodeRateLimited, e.err.Error())
	case errors.Is(e.err, errBodiesFull):
		return wire.NewProblem(wire.CodeUnavailable, e.err.Error()+"; send it again with the same id after Retry-After seconds")
	case errors.As(e.err, &timeout) && timeout.Timeout():
		return errLateRequest
	}
	return wire.NewProblem(wire.CodeMalformed, "the body is not what its headers announce")
}

// serve is around every request: it notes that one is being answered, refuses
// what headers have shown to be too large, and sees that whoever sends a body
// which nobody reads can still read the answer.
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
			limit := s.limitOf(string(s.pathOf(&rc.Request.Header)), &rc.Request.Header)
			_ = s.problem(c, tooLarge(limit)) // writing to memory does not fail
			s.app.ReleaseCtx(c)
		} else {
			next(rc)
		}
		if conn != nil {
			s.lingerAfter(conn, rc, why)
		}
	}
}

// lingerAfter has the connection read away what is still to come of a body that
// nobody has read, where fasthttp will close it after the answer.
func (s *Server) lingerAfter(conn *connection, rc *fasthttp.RequestCtx, why string) {
	length := rc.Request.Header.ContentLength()
	unread := why != "" || !conn.bodyRead && (length > 0 || length == -1)
	if unread && length == -1 { // it has no end that could be waited for
		rc.Response.Header.SetConnectionClose()
	}
	n := 0
	if unread && (length > fasthttpDiscards || rc.Response.Header.ConnectionClose() || rc.Request.Header.ConnectionClose()) {
		n = max(s.o.MaxBatchBytes, s.o.Bridge.MaxBytes()) + overLimit
	}
	conn.linger.Store(int64(n))
}

// maxRequestBytes is for bodies that hold no event: a list of 1,000 names at most.
const maxRequestBytes = 1 << 20
