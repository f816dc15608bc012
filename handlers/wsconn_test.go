package handlers

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

func TestWSConn(t *testing.T) {
	t.Run("writes frames as the library reads them", wsConnWrites)
	t.Run("gives a message longer the larger it is", wsConnReadTime)
	t.Run("without a token makes room where its frame has been coming for longest", wsConnMakesRoom)
}

// peerBytes is a connection on which the peer has sent these bytes and closed.
type peerBytes struct {
	net.Conn // nil: whatever is not overridden must not be called
	r        io.Reader
	w        bytes.Buffer
}

func (p *peerBytes) Read(b []byte) (int, error)       { return p.r.Read(b) }
func (p *peerBytes) Write(b []byte) (int, error)      { return p.w.Write(b) }
func (p *peerBytes) Close() error                     { return nil }
func (p *peerBytes) SetReadDeadline(time.Time) error  { return nil }
func (p *peerBytes) SetWriteDeadline(time.Time) error { return nil }

// alone is what the connections of a test share.
func alone() *sockets { return &sockets{messageTimeout: messageTimeout, poller: newPoller(nil)} }

func FuzzConnRead(f *testing.F) {
	frame := func(frames ...ws.Frame) []byte {
		var b bytes.Buffer
		for _, fr := range frames {
			if err := ws.WriteFrame(&b, ws.MaskFrame(fr)); err != nil {
				f.Fatal(err)
			}
		}
		return b.Bytes()
	}
	f.Add(frame(ws.NewTextFrame([]byte(`{"type":"ping"}`)), ws.NewPingFrame([]byte("x")), ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "bye"))))
	f.Add(frame(ws.NewFrame(ws.OpText, false, []byte("a")), ws.NewPongFrame([]byte("1.0")), ws.NewFrame(ws.OpContinuation, true, []byte("b"))))
	f.Add(frame(ws.NewBinaryFrame([]byte{1, 2}), ws.NewTextFrame([]byte("\xff"))))
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	const limit = 1024
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := newWSConn(&peerBytes{r: bytes.NewReader(sent)}, "peer", alone())
		c.Limit(limit)
		for range len(sent) + 2 {
			kind, payload, err := c.Read()
			if err != nil && !c.over {
				return
			}
			if len(payload) > limit {
				t.Fatalf("%d bytes past a limit of %d", len(payload), limit)
			}
			if kind == bridge.KindText && !utf8.Valid(payload) {
				t.Fatalf("text that is not UTF-8: %q", payload)
			}
			if err == io.EOF {
				return
			}
		}
		t.Fatal("reading never ends")
	})
}

func wsConnWrites(t *testing.T) {
	c := newWSConn(&peerBytes{r: bytes.NewReader(nil)}, "peer", alone())
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		text := bytes.Repeat([]byte("x"), n)
		h, err := ws.ReadHeader(bytes.NewReader(c.AppendText(nil, wire.Frame{Head: text[:n/2], Tail: text[n/2:]})))
		if err != nil || h.Length != int64(n) || h.OpCode != ws.OpText || !h.Fin || h.Masked {
			t.Errorf("%d bytes: %+v, %v", n, h, err)
		}
	}
}

// stalled is a peer that sends something, byte by byte, and then nothing more. It notes
// the deadline that each read has.
type stalled struct {
	peerBytes
	deadline time.Time   // the one there is now
	reads    []time.Time // those that there were
}

func (p *stalled) Read(b []byte) (int, error) {
	p.reads = append(p.reads, p.deadline)
	if n, err := p.r.Read(b); err == nil {
		return n, nil
	}
	return 0, os.ErrDeadlineExceeded
}

func (p *stalled) SetReadDeadline(t time.Time) error {
	p.deadline = t
	return nil
}

func wsConnReadTime(t *testing.T) {
	var sent bytes.Buffer
	for _, f := range []ws.Frame{ws.NewTextFrame([]byte("whole")), ws.NewFrame(ws.OpText, false, bytes.Repeat([]byte("x"), 20*messageRate)), ws.NewPingFrame([]byte("inside"))} {
		if err := ws.WriteFrame(&sent, ws.MaskFrame(f)); err != nil {
			t.Fatal(err)
		}
	}
	peer := &stalled{peerBytes: peerBytes{r: iotest.OneByteReader(&sent)}}
	c := newWSConn(peer, "peer", alone())
	c.Limit(1 << 20)
	before := time.Now()
	for _, want := range []bridge.Kind{bridge.KindText, bridge.KindFragment, bridge.KindPing} {
		peer.reads = nil
		if kind, _, err := c.Read(); kind != want || err != nil {
			t.Fatalf("instead of %d: %d, %v", want, kind, err)
		}
		between := want != bridge.KindPing // two messages, when its first byte was waited for
		if first := peer.reads[0]; first.IsZero() != between {
			t.Errorf("the first byte of a frame of kind %d had the deadline %v", want, first)
		}
		if slices.ContainsFunc(peer.reads[1:], time.Time.IsZero) {
			t.Errorf("bytes of a frame of kind %d had no deadline", want)
		}
	}
	if _, _, err := c.Read(); !errors.Is(err, bridge.ErrSlowMessage) {
		t.Errorf("instead of ErrSlowMessage: %v", err)
	}
	last := peer.deadline
	if last.Before(before.Add(messageTimeout+20*time.Second)) || last.After(time.Now().Add(messageTimeout+20*time.Second)) {
		t.Errorf("the deadline is %v from now", time.Until(last))
	}
}

// Frames of connections without a token share the limit of bodies that are not
// verified: in many connections they are as much memory.
func wsConnMakesRoom(t *testing.T) {
	bs := newBodyBudget(1000)
	bs.max, bs.maxPerAddress = 40_000, 20_000
	half := func(remote string) *wsConn { // it has sent 10,000 bytes of a message
		var sent bytes.Buffer
		if err := ws.WriteFrame(&sent, ws.MaskFrame(ws.NewFrame(ws.OpText, false, make([]byte, 10_000)))); err != nil {
			t.Fatal(err)
		}
		c := newWSConn(&stalled{peerBytes: peerBytes{r: &sent}}, remote, alone())
		c.Limit(1 << 20)
		c.countUnauthenticated(bs, nil)
		if kind, _, err := c.Read(); kind != bridge.KindFragment || err != nil {
			t.Fatalf("%d, %v", kind, err)
		}
		return c
	}
	first, other := half("2001:db8::1"), half("192.0.2.1")
	second := half("2001:db8::2") // of the first one's network
	if _, _, err := first.Read(); !errors.Is(err, bridge.ErrCrowded) {
		t.Errorf("the oldest of an address that has too much: %v", err)
	}
	authenticated := half("192.0.2.2")
	if other.evicted() == nil || second.evicted() != nil {
		t.Error("not the oldest of all has made room")
	}
	authenticated.stopCounting()
	for range 3 {
		half("192.0.2.3").stopCounting()
	}
	if authenticated.evicted() != nil || second.evicted() != nil {
		t.Error("what has shown a token still counts")
	}
	if err := authenticated.grows(1 << 20); err != nil {
		t.Errorf("a session's frames are counted: %v", err)
	}
	for _, c := range []*wsConn{first, other, second} {
		c.stopCounting()
	}
	if bs.size != 0 || len(bs.reading)+len(bs.byAddress) != 0 {
		t.Errorf("%d bytes stay counted, %v", bs.size, bs.byAddress)
	}
}
