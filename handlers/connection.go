package handlers

import (
	"container/list"
	"net"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

// connection is one that the listener has accepted. It is counted until Close.
type connection struct {
	net.Conn
	of *listener

	closed          atomic.Bool
	shared          atomic.Int32 // how many calls of Close are to come before the one that closes
	isAuthenticated atomic.Bool
	answering       atomic.Bool // a request is being answered
	// linger is how many bytes Close reads and drops before it closes.
	linger atomic.Int64
	// Of the request under way, for its handler alone: whether its body was read to
	// the end, and whether its token or signature was good.
	bodyRead, requestAuthenticated bool

	// ahead is what watch has read while it waited for the peer to hang up; it belongs
	// to the one goroutine that reads.
	ahead []byte

	in      *list.List    // the list of its listener that it is on; guarded by of.mu, as what follows
	place   *list.Element // in that list
	dropped bool
}

// Read implements net.Conn.
func (c *connection) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// tcp is the TCP connection below the wrappers, or what is there instead. It is for one
// who has read all that the wrappers had buffered.
func (c *connection) tcp() net.Conn {
	if p, ok := c.Conn.(interface{ TCPConn() (*net.TCPConn, bool) }); ok {
		if t, ok := p.TCPConn(); ok {
			return t
		}
	}
	return c.Conn
}

// SetWriteBuffer sets the size of the kernel's send buffer, bytes.
func (c *connection) SetWriteBuffer(n int) error {
	if t, ok := c.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		return t.SetWriteBuffer(n)
	}
	return nil
}

// share has the connection stay open until Close was called once more than it would have to
// be: fasthttp closes an upgraded connection when its handler has returned, and only then
// uses the request's buffers again, but the session is there for as long as it likes.
func (c *connection) share() { c.shared.Add(1) }

// Close implements net.Conn. Only the first call that is not to be waited for does
// something.
func (c *connection) Close() error {
	if c.shared.Add(-1) >= 0 {
		return nil
	}
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if n := c.linger.Load(); n > 0 {
		c.discard(n)
	}
	err := c.Conn.Close()
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	c.putOn(nil)
	l.open--
	l.burst.shrank(l.unauthenticated.Len() + l.authenticated.Len())
	if c.dropped {
		err = nil // dropping closed it
		l.dropping--
		select {
		case l.freed <- struct{}{}:
		default:
		}
	}
	return err
}

// lingerTimeout is how long a peer that was refused in the middle of its request
// may take to read the answer.
const lingerTimeout = 5 * time.Second

// discard ends our side of the connection, then reads and drops what the peer still
// sends, n bytes at most. Closing at once would reset the connection, and the peer
// could lose the answer (RFC 9112 §9.6).
func (c *connection) discard(n int64) {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	var b [2048]byte
	for n > 0 {
		got, err := c.Conn.Read(b[:])
		if err != nil {
			return
		}
		n -= int64(got)
	}
}

// markAuthenticated notes that a token or a signature was good.
func (c *connection) markAuthenticated() {
	if c.isAuthenticated.Swap(true) {
		return
	}
	c.move(&c.of.authenticated)
}

// becomeWebSocket notes that the connection was upgraded: it takes far less memory than
// one that serves requests.
func (c *connection) becomeWebSocket() { c.move(&c.of.upgraded) }

// becomeSession takes the connection off the lists: a session is never dropped.
func (c *connection) becomeSession() {
	if c.move(nil) {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		c.of.arrivals.came()
	}
}

// move puts the connection on another list; false where it is on none, because it was
// dropped a moment ago, or is a session.
func (c *connection) move(to *list.List) bool {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.in == nil {
		return false
	}
	c.putOn(to)
	return true
}

// putOn takes the connection off the list that it is on, and makes it the newest of
// another one; nil for none. The listener's mu is held.
func (c *connection) putOn(to *list.List) {
	if c.in != nil {
		c.in.Remove(c.place)
	}
	if c.in, c.place = to, nil; to != nil {
		c.place = to.PushBack(c)
	}
}

// connectionOf finds the listener's connection below fasthttp's wrappers; nil where a
// test came without one.
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
