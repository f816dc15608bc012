package handlers

import (
	"context"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
)

// maxAhead is how much of what a peer sends behind its request (pipelining) is
// kept while its hang-up is watched for, bytes. The answer of one who sends more is
// not waited for any longer: behind so much its hang-up would not be seen.
const maxAhead = 16 << 10

// longAgo makes a read that is under way, and each to come, time out.
var longAgo = time.Unix(1, 0)

// caller returns a context that ends when whoever sent the request hangs up:
// fasthttp's own never does. stop must be called before the handler returns. It
// costs a goroutine and is for answers that are long in coming.
func (s *Server) caller(c *fiber.Ctx) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	conn := connectionOf(c.Context().Conn())
	if conn == nil || conn.SetReadDeadline(time.Time{}) != nil {
		return ctx, cancel
	}
	watched := make(chan struct{})
	go s.o.Guard.Run("request", func() {
		defer close(watched)
		conn.watch(cancel)
	})
	return ctx, func() {
		// An error means that the connection is gone, and the read with it.
		_ = conn.SetReadDeadline(longAgo)
		<-watched
		_ = conn.SetReadDeadline(time.Now().Add(s.o.RequestTimeout))
		cancel()
	}
}

// watch reads ahead until the peer hangs up or has sent more than is kept, which
// calls gone, or until a read times out. Nobody else may read meanwhile.
func (c *connection) watch(gone func()) {
	var b [512]byte
	for len(c.ahead) < maxAhead {
		n, err := c.Conn.Read(b[:])
		c.ahead = append(c.ahead, b[:n]...)
		if err != nil {
			if t, ok := err.(net.Error); !ok || !t.Timeout() {
				gone()
			}
			return
		}
	}
	gone()
}

// connectionOf is what the listener knows of a connection; nil for one that came
// in another way.
func connectionOf(nc net.Conn) *connection {
	for {
		switch c := nc.(type) {
		case *connection:
			return c
		case interface{ UnsafeConn() net.Conn }: // fasthttp's wrapper of a hijacked one
			nc = c.UnsafeConn()
		default:
			return nil
		}
	}
}

// markAuthenticated notes that a request's token or signature was good.
func markAuthenticated(c *fiber.Ctx) {
	if conn := connectionOf(c.Context().Conn()); conn != nil {
		conn.markAuthenticated()
		conn.requestAuthenticated = true
	}
}

// authenticated reports whether the request's token or signature was found to be good.
func authenticated(c *fiber.Ctx) bool {
	conn := connectionOf(c.Context().Conn())
	return conn != nil && conn.requestAuthenticated
}
