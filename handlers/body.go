package handlers

import (
	"bytes"
	"errors"
	"io"
	"net"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/wire"
)

const (
	// firstBodyBytes is the size of a body's first buffer. Most events fit. The budget
	// does not count it: the limit of connections bounds it.
	firstBodyBytes = 4 << 10
	// maxRequestBytes bounds a body that holds no event: a list of 1,000 names at most.
	maxRequestBytes = 1 << 20
)

var errBodyTooLarge = errors.New("the body is larger than allowed")

// readBody reads a request's body of at most limit bytes into a buffer of its own,
// which grows with what arrives and not with what a header announces. Its error is a
// *bodyError; the connection serves no other request after one.
func (s *Server) readBody(c *fiber.Ctx, limit int) ([]byte, error) {
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return bytes.Clone(c.Request().Body()), nil // a request without a body, or a test's
	}
	conn := connectionOf(c.Context().Conn())
	if conn != nil { // one whose sender stalls may be dropped to make room
		conn.answering.Store(false)
		defer conn.answering.Store(true)
	}
	r := bodyReader{budget: s.bodies, limit: limit, length: c.Request().Header.ContentLength(),
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
	budget  *bodyBudget
	limit   int
	length  int // as announced; -1: chunked
	conn    *connection
	use     *bodyUse // nil while the body is too small to be counted
	counted int      // bytes in use

	server  *Server
	request *fiber.Ctx // nil in tests
}

// address is the sender's network, by which limits count.
func (r *bodyReader) address() string {
	if r.request == nil {
		return ""
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
	if r.use != nil {
		if evicted := r.budget.done(r.use); evicted != nil {
			return nil, evicted
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

// enlarge moves what has come into a buffer of size bytes, if the budget has them.
func (r *bodyReader) enlarge(b []byte, size int) ([]byte, error) {
	if r.use == nil {
		r.use = &bodyUse{address: r.address(), conn: r.conn}
	}
	more := size - r.counted
	r.counted = size
	if err := r.budget.grow(r.use, more); err != nil {
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

// hungUp reports whether the sender is gone, and nobody waits for an answer.
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
