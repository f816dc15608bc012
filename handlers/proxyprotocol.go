package handlers

import (
	"fmt"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

// ProxyProtocol makes a listener read the PROXY protocol's header (HAProxy's, versions 1
// and 2) and take the connection's peer from it. Where the proxies' networks are
// known, connections from them must send it, and those of others are taken as they
// are, so that only proxies can name another client. Where the networks are not
// known, every connection must send it.
func ProxyProtocol(ln net.Listener, p Proxies) net.Listener {
	return &proxyListener{&proxyproto.Listener{
		Listener: ln, ReadHeaderTimeout: requestTimeout,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if !p.Networks() {
				return proxyproto.REQUIRE, nil
			}
			peer, err := netip.ParseAddrPort(o.Upstream.String())
			if err != nil {
				return proxyproto.REJECT, fmt.Errorf("%w: no address", proxyproto.ErrInvalidUpstream)
			}
			if p.Trusts(normalAddress(peer.Addr())) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
	}}
}

type proxyListener struct{ net.Listener }

// Accept implements net.Listener.
func (l *proxyListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if c, ok := nc.(*proxyproto.Conn); ok && err == nil {
		return &proxiedConn{c}, nil
	}
	return nc, err
}

// proxiedConn adds what the edge uses of a TCP connection beyond net.Conn.
type proxiedConn struct{ *proxyproto.Conn }

// RemoteAddr is the client that the header names; where that has no TCP address, like a
// process at a balancer's Unix socket, it is the proxy.
func (c *proxiedConn) RemoteAddr() net.Addr {
	if a, ok := c.Conn.RemoteAddr().(*net.TCPAddr); ok {
		return a
	}
	return c.Raw().RemoteAddr()
}

// SetWriteBuffer sets the size of the kernel's send buffer, bytes.
func (c *proxiedConn) SetWriteBuffer(n int) error {
	if t, ok := c.TCPConn(); ok {
		return t.SetWriteBuffer(n)
	}
	return nil
}

// CloseWrite ends our side of the connection.
func (c *proxiedConn) CloseWrite() error {
	if t, ok := c.TCPConn(); ok {
		return t.CloseWrite()
	}
	return net.ErrClosed
}
