package handlers

import (
	"context"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
)

// maxAhead is how many bytes of pipelined requests are kept while we watch for the
// peer to hang up. A peer that sends more counts as gone: behind so much its hang-up
// would not be seen.
const maxAhead = 16 << 10

// longAgo, as a deadline, makes the current read and each later one time out.
var longAgo = time.Unix(1, 0)

// caller returns a context that ends when the sender of the request hangs up;
// fasthttp's own never does. stop must be called before the handler returns. It costs
// a goroutine and is for answers that may take seconds.
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

// watch reads ahead until a read times out, and calls gone if the peer hangs up or
// sends more than maxAhead. Nobody else may read meanwhile.
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
