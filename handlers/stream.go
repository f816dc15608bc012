package handlers

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// after is the cursor where a client without WebSocket wants to resume. A browser
// that reconnects by itself sends the newest as Last-Event-ID.
func after(c *fiber.Ctx) string {
	if id := c.Get("Last-Event-ID"); id != "" {
		return strings.Clone(id)
	}
	return strings.Clone(c.Query("after"))
}

// stream is a session over server-sent events (WHATWG HTML §9.2). Like a
// WebSocket's, its connection is taken away from Fiber.
func (s *Server) stream(c *fiber.Ctx) error {
	if err := s.listens(); err != nil {
		return err
	}
	id, err := s.streamer(c)
	if err != nil {
		return err
	}
	c.Status(fiber.StatusOK)
	h := &c.Response().Header
	h.SetContentType("text/event-stream; charset=utf-8")
	h.Set(fiber.HeaderCacheControl, "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	sc := &streamConn{chunked: c.Request().Header.IsHTTP11(), remote: s.clientAddress(c)}
	if sc.chunked {
		h.SetContentLength(-1) // writes Transfer-Encoding: chunked
	} else {
		h.SetContentLength(-2) // until the connection ends
		h.Set(fiber.HeaderConnection, "close")
	}
	if c.Method() == fiber.MethodHead {
		return nil // a client would take a body for the next reply
	}
	head := append([]byte(nil), h.Header()...)
	hs := bridge.Handshake{Identity: &id, Transport: "sse", OneWay: true, After: after(c)}
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(nc net.Conn) {
		sc.nc, _ = detach(nc) // a client has nothing to say behind its request
		if conn := connectionOf(sc.nc); conn != nil {
			conn.becomeSession()
			conn.share()
		}
		go func() {
			defer s.surviveConnection(sc)
			if err := sc.open(head); err != nil {
				sc.Abort()
				return
			}
			s.o.Bridge.Accept(sc, hs)
		}()
	})
	return nil
}

// listens is why no stream and no poll is taken now: bridge.ErrDraining, ErrFull.
func (s *Server) listens() error {
	switch {
	case s.o.Bridge.Draining():
		return bridge.ErrDraining
	case s.o.Bridge.Full():
		return bridge.ErrFull
	}
	return nil
}

// streamConn is a bridge.Conn that can only be written to.
type streamConn struct {
	nc      net.Conn
	remote  string
	chunked bool

	mu     sync.Mutex // one write at a time; guards closed
	closed bool
}

func (c *streamConn) open(head []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(head)
	return err
}

// Read implements bridge.Conn: it drops what the client sends, and returns when the
// client is gone.
func (c *streamConn) Read() (bridge.Kind, []byte, error) {
	var b [64]byte
	for {
		if _, err := c.nc.Read(b[:]); err != nil {
			return 0, nil, err
		}
	}
}

// Park implements bridge.Conn: a stream's reader has a goroutine.
func (c *streamConn) Park(bridge.Resumer) bool { return false }

// AppendText implements bridge.Conn: a frame becomes one event of the stream, with the
// cursor as its id where it has one.
func (c *streamConn) AppendText(b []byte, f wire.Frame) []byte {
	if len(f.Cursor) > 0 {
		b = append(append(append(b, "id: "...), f.Cursor...), '\n')
	}
	b = append(append(append(b, "event: "...), f.Type...), "\ndata: "...)
	b = appendDataLines(appendDataLines(b, f.Head), f.Tail)
	return append(b, "\n\n"...)
}

// appendDataLines begins a new data field at each line break, as the standard wants; the
// reader joins the fields with line feeds. Line breaks are only between the tokens of
// an event's data, as it came. A carriage return comes out as a line feed, which there
// means the same.
func appendDataLines(b, part []byte) []byte {
	for _, ch := range part {
		if ch == '\r' || ch == '\n' {
			b = append(b, "\ndata: "...)
			continue
		}
		b = append(b, ch)
	}
	return b
}

// AppendPing implements bridge.Conn: a comment keeps proxies from closing.
func (c *streamConn) AppendPing(b, _ []byte) []byte { return append(b, ":\n\n"...) }

// AppendPong implements bridge.Conn; nobody can ping a stream.
func (c *streamConn) AppendPong(b, _ []byte) []byte { return b }

// Write implements bridge.Conn.
func (c *streamConn) Write(events []byte, deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return c.write(events, deadline)
}

func (c *streamConn) write(events []byte, deadline time.Time) error {
	if len(events) == 0 {
		return nil // an empty chunk would be the end
	}
	if err := c.nc.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if c.chunked {
		chunk := strconv.AppendUint(make([]byte, 0, len(events)+16), uint64(len(events)), 16)
		chunk = append(append(chunk, "\r\n"...), events...)
		events = append(chunk, "\r\n"...)
	}
	_, err := c.nc.Write(events)
	return err
}

// WriteClose implements bridge.Conn: the last event says what a close frame would.
func (c *streamConn) WriteClose(code wire.CloseCode, reason string, deadline time.Time) {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		last := c.AppendText(nil, wire.Closed{Code: code, Reason: reason}.Frame())
		if err := c.write(last, deadline); err == nil && c.chunked {
			// The connection ends in any case; a client that misses this sees that.
			_, _ = c.nc.Write([]byte("0\r\n\r\n"))
		}
	}
	c.mu.Unlock()
	c.Abort()
}

// Limit implements bridge.Conn.
func (c *streamConn) Limit(int) {}

// Abort implements bridge.Conn.
func (c *streamConn) Abort() {
	// Closing twice is an error that means nothing here.
	_ = c.nc.Close()
}

// ExpireWrite implements bridge.Conn.
func (c *streamConn) ExpireWrite(t time.Time) {
	// Failing means that the connection is gone already.
	_ = c.nc.SetWriteDeadline(t)
}

// Remote implements bridge.Conn.
func (c *streamConn) Remote() string { return c.remote }
