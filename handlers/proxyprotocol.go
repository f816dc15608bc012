package handlers

import (
	"fmt"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

// ProxyProtocol makes a listener read the PROXY protocol's header (HAProxy's,
// versions 1 and 2), from which a connection's peer is known then. Proxies that
// are known by their networks must send it, and whoever else connects is taken
// as it is, so that nobody but they can name another client; where no networks
// are known, everybody must send it.
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

// proxiedConn has what of a TCP connection is used beyond net.Conn.
type proxiedConn struct{ *proxyproto.Conn }

// SetWriteBuffer bounds what the kernel keeps of what is written, bytes.
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
