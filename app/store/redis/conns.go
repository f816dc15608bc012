package redis

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

// conns are the open connections to Redis. A caller who waits for a server that hangs
// waits for as long as the connection lasts; so does Close, which therefore ends the
// connections.
type conns struct {
	mu   sync.Mutex // guards what follows
	open map[net.Conn]struct{}
	shut bool

	broken atomic.Int64 // how many have ended
}

func newConns() *conns { return &conns{open: make(map[net.Conn]struct{})} }

// conn is one connection.
type conn struct {
	net.Conn
	of *conns
}

// dial is rueidis' own dialing, and registers the connection.
func (c *conns) dial(ctx context.Context, addr string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
	var nc net.Conn
	var err error
	if secure != nil {
		nc, err = (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, "tcp", addr)
	} else {
		nc, err = d.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		_ = nc.Close() // nobody has written to it
		return nil, net.ErrClosed
	}
	c.open[nc] = struct{}{}
	return &conn{nc, c}, nil
}

// Read implements net.Conn. If it fails, the next connection may lead to another server;
// the failure is counted before anybody can ask for that connection.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.of.broken.Add(1)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// drop ends all connections there are: they lead to a server that has become a replica,
// and new ones may lead to the primary.
func (c *conns) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for nc := range c.open {
		_ = nc.Close() // a caller who waits for an answer gets an error
	}
}

// end ends all connections, and those to come.
func (c *conns) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	for nc := range c.open {
		_ = nc.Close() // a caller who waits for an answer gets an error
	}
}
