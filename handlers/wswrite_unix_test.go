//go:build unix

package handlers

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

func TestTryWrite(t *testing.T) {
	t.Run("takes what the socket takes at once, and Write the rest", tryWriteOfPart)
	t.Run("takes nothing while another write waits", tryWriteBeside)
	t.Run("is not bound by a deadline that is over", tryWriteAfterDeadline)
	t.Run("writes nothing after a close frame", tryWriteAfterClose)
	t.Run("fails where the connection is gone", tryWriteAfterEnd)
}

// socketPair is a WebSocket after its handshake, and its peer.
func socketPair(t *testing.T) (*wsConn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	expect.NoError(t, err)
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	expect.NoError(t, err)
	nc, err := ln.Accept()
	expect.NoError(t, err)
	// Sizes of our own, which the kernel does not raise by itself.
	expect.NoError(t, peer.(*net.TCPConn).SetReadBuffer(sendBufferBytes))
	expect.NoError(t, nc.(*net.TCPConn).SetWriteBuffer(sendBufferBytes))
	c := newWSConn(nc, "peer", alone())
	t.Cleanup(func() { c.Abort(); _ = peer.Close() })
	return c, peer.(*net.TCPConn)
}

// long is far more than the kernel's buffers of a connection hold.
var long = bytes.Repeat([]byte("0123456789abcdef"), 1<<18)

func tryWriteOfPart(t *testing.T) {
	c, peer := socketPair(t)
	got := make(chan error)
	for range 3 {
		n, err := c.TryWrite(long)
		if n == 0 || n >= len(long) || err != nil {
			t.Fatalf("%d of %d, %v", n, len(long), err)
		}
		again, err := c.TryWrite(long[n:])
		if n += again; n >= len(long) || err != nil {
			t.Fatalf("the full socket took %d more, %v", again, err)
		}
		go func() {
			b := make([]byte, len(long))
			_, err := io.ReadFull(peer, b)
			if err == nil && !bytes.Equal(b, long) {
				err = errors.New("the peer has read something else")
			}
			got <- err
		}()
		expect.NoError(t, c.Write(long[n:], time.Now().Add(expect.Patience)))
		expect.NoError(t, <-got)
	}
}

func tryWriteBeside(t *testing.T) {
	c, peer := socketPair(t)
	wrote := make(chan error, 1)
	go func() { wrote <- c.Write(long, time.Now().Add(expect.Patience)) }()
	for c.wmu.TryLock() {
		c.wmu.Unlock()
		runtime.Gosched()
	}
	if n, err := c.TryWrite([]byte("x")); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	expect.NoError(t, peer.Close())
	if err := <-wrote; err == nil {
		t.Error("a write to nobody came to its end")
	}
}

func tryWriteAfterDeadline(t *testing.T) {
	c, _ := socketPair(t)
	c.ExpireWrite(time.Now().Add(-time.Second))
	if n, err := c.TryWrite([]byte("x")); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	expect.NoError(t, c.Write([]byte("x"), time.Now().Add(expect.Patience)))
	if n, err := c.TryWrite([]byte("x")); n != 1 || err != nil {
		t.Errorf("after a write with a deadline of its own: %d, %v", n, err)
	}
	noting := &noting{peerBytes: peerBytes{r: bytes.NewReader(nil)}, deadline: time.Unix(1, 0)}
	expect.NoError(t, newWSConn(noting, "peer", alone()).Write([]byte("x"), time.Now().Add(expect.Patience)))
	if !noting.deadline.IsZero() {
		t.Errorf("a write leaves the deadline %v", noting.deadline)
	}
}

// noting notes the deadline of the next write.
type noting struct {
	peerBytes
	deadline time.Time
}

func (n *noting) SetWriteDeadline(t time.Time) error {
	n.deadline = t
	return nil
}

func tryWriteAfterClose(t *testing.T) {
	c, peer := socketPair(t)
	go c.WriteClose(wire.CloseNormal, "", time.Now().Add(expect.Patience))
	_, err := io.ReadFull(peer, make([]byte, 4))
	expect.NoError(t, err)
	expect.Eventually(t, "the close frame to be written", func() bool {
		n, err := c.TryWrite([]byte("x"))
		return n == 0 && errors.Is(err, net.ErrClosed)
	})
}

func tryWriteAfterEnd(t *testing.T) {
	c, peer := socketPair(t)
	expect.NoError(t, peer.SetLinger(0)) // its end is a reset
	expect.NoError(t, peer.Close())
	expect.Eventually(t, "the reset to be seen", func() bool {
		_, err := c.TryWrite([]byte("x"))
		return err != nil
	})
	c.Abort()
	if n, err := c.TryWrite([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
}
