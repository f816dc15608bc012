package handlers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// parkingReader reads a connection as a session does, and parks it whenever it may.
type parkingReader struct {
	c     *wsConn
	texts chan string
	ended chan error
}

func (r *parkingReader) Resume() {
	for {
		if r.c.Park(r) {
			return
		}
		switch kind, payload, err := r.c.Read(); {
		case err != nil:
			r.ended <- err
			return
		case kind == bridge.KindText:
			r.texts <- string(payload)
		}
	}
}

// parkedPair is a parked connection and its peer.
func parkedPair(t *testing.T, p *poller) (*parkingReader, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r := &parkingReader{c: newWSConn(nc, "peer", &sockets{messageTimeout: messageTimeout, poller: p}), texts: make(chan string, 100), ended: make(chan error, 1)}
	t.Cleanup(func() { r.c.Abort(); _ = peer.Close() })
	r.c.Limit(1 << 20)
	go r.Resume()
	r.waitParked(t)
	return r, peer
}

func (r *parkingReader) waitParked(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); r.c.state.Load()&parked == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the connection is not parked")
		}
	}
}

func (r *parkingReader) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-r.texts:
		return s
	case <-time.After(expect.Patience):
		t.Fatal("no message came")
		return ""
	}
}

func (r *parkingReader) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(expect.Patience):
		t.Fatal("the end was not seen")
		return nil
	}
}

func TestParkedConnection(t *testing.T) {
	send := func(t *testing.T, peer net.Conn, text string) { // in one write, so that there is one signal
		t.Helper()
		frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(text))))
		if err == nil {
			_, err = peer.Write(frame)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	newTestPoller := func(t *testing.T) *poller {
		p := newPoller(nil)
		t.Cleanup(p.close)
		return p
	}

	t.Run("reads each message, and keeps nothing to read with in between", func(t *testing.T) {
		p := newTestPoller(t)
		r, peer := parkedPair(t, p)
		for i := range 100 {
			send(t, peer, fmt.Sprint(i))
			if got := r.next(t); got != fmt.Sprint(i) {
				t.Fatalf("instead of %d: %q", i, got)
			}
			r.waitParked(t)
			p.mu.Lock() // which the next signal comes after
			kept := r.c.in != nil
			p.mu.Unlock()
			if kept {
				t.Fatal("a parked connection keeps its buffers")
			}
		}
	})

	t.Run("misses none of many that come while it reads", func(t *testing.T) {
		r, peer := parkedPair(t, newTestPoller(t))
		const n = 5000
		failed := make(chan error, 1)
		go func() {
			for i := range n {
				if err := wsutil.WriteClientText(peer, []byte(fmt.Sprint(i))); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		for i := range n {
			if got := r.next(t); got != fmt.Sprint(i) {
				t.Fatalf("instead of %d: %q", i, got)
			}
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		r.waitParked(t)
	})

	t.Run("reads a message that comes in pieces", func(t *testing.T) {
		r, peer := parkedPair(t, newTestPoller(t))
		frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("in pieces"))))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range frame {
			if _, err := peer.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.next(t); got != "in pieces" {
			t.Fatalf("got %q", got)
		}
		r.waitParked(t)
	})

	t.Run("sees the peer's end, also right behind a message", func(t *testing.T) {
		p := newTestPoller(t)
		for i := range 200 {
			r, peer := parkedPair(t, p)
			if i%2 == 0 {
				send(t, peer, "last")
			}
			if err := peer.Close(); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				if got := r.next(t); got != "last" {
					t.Fatalf("got %q", got)
				}
			}
			if err := r.end(t); !errors.Is(err, io.EOF) {
				t.Fatalf("instead of EOF: %v", err)
			}
		}
	})

	t.Run("is resumed by Abort", func(t *testing.T) {
		p := newTestPoller(t)
		for range 200 { // descriptors are used again
			r, _ := parkedPair(t, p)
			r.c.Abort()
			if err := r.end(t); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("instead of ErrClosed: %v", err)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for fd, c := range p.conns {
			if c != nil {
				t.Errorf("descriptor %d is still watched", fd)
			}
		}
	})

	t.Run("gets a goroutine back when the poller closes, and reads on", func(t *testing.T) {
		p := newTestPoller(t)
		r, peer := parkedPair(t, p)
		p.close()
		send(t, peer, "still here")
		if got := r.next(t); got != "still here" {
			t.Fatalf("got %q", got)
		}
		late, other := net.Pipe()
		defer other.Close()
		c := newWSConn(late, "peer", &sockets{messageTimeout: messageTimeout, poller: p})
		defer c.Abort()
		if c.Park(r) {
			t.Error("a closed poller, or a connection without a descriptor, parks")
		}
	})
}
