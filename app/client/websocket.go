package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/wire"
)

const (
	dialTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
)

// errNotBridge is a handshake that another program answered.
var errNotBridge = fmt.Errorf("the other side does not speak %s; is the address right?", wire.Subprotocol)

// errSilent is why a connection was closed on which nothing came.
var errSilent = errors.New("nothing came for too long")

// closedError is the close frame with which the bridge ended a connection.
type closedError struct {
	code   wire.CloseCode // 0 where the frame has none
	reason string
}

func (e *closedError) Error() string { return fmt.Sprintf("closed with %d %s", e.code, e.reason) }

// conn is one WebSocket connection. net/http makes the handshake (TLS, proxies
// and refusals with it), and gobwas/ws reads and writes the frames. One
// goroutine may read while others write.
type conn struct {
	rwc      io.ReadWriteCloser
	rd       wsutil.Reader
	watchdog watchdog

	mu      sync.Mutex // held while a frame is written; guards closing
	closing bool       // a close frame was written, which nothing may follow
}

// dial opens a connection. Its error is a *ProblemError where the bridge has
// refused, errNotBridge where something else has answered, and else the network's.
func dial(ctx context.Context, hc *http.Client, url, token string, plain bool, maxFrame int64) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails (see its documentation)
	key := base64.StdEncoding.EncodeToString(nonce)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", key)
	if !plain {
		req.Header.Set("Sec-WebSocket-Protocol", wire.Subprotocol)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if _, err := readReply(resp); err != nil {
			return nil, err
		}
		return nil, &ProblemError{Status: resp.StatusCode}
	}
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	accept := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	if !ok || resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(accept[:]) ||
		!plain && resp.Header.Get("Sec-WebSocket-Protocol") != wire.Subprotocol {
		resp.Body.Close()
		return nil, errNotBridge
	}
	c := &conn{rwc: rwc}
	c.rd = wsutil.Reader{Source: bufio.NewReader(rwc), State: ws.StateClientSide, CheckUTF8: true, MaxMessageSize: maxFrame, OnIntermediate: c.control}
	c.watchdog.close = c.close
	return c, nil
}

// read returns the next text message. It answers pings, which tells the bridge
// that all before them has arrived. A close frame is a *closedError, a message that is too
// large wsutil.ErrMessageTooLarge, a connection that was silent errSilent.
func (c *conn) read() ([]byte, error) {
	defer c.watchdog.stop()
	for {
		c.watchdog.start()
		h, err := c.rd.NextFrame()
		switch {
		case err != nil:
		case h.OpCode.IsControl():
			err = c.control(h, &c.rd)
		case h.OpCode == ws.OpText:
			var b []byte
			if b, err = io.ReadAll(&c.rd); err == nil {
				return b, nil
			}
		default: // this protocol has no binary messages
			err = c.rd.Discard()
		}
		if err != nil {
			if c.watchdog.barked.Load() {
				err = errSilent
			}
			return nil, err
		}
	}
}

// control reads and answers a ping, a pong or a close frame, also one that stands
// between the fragments of a message.
func (c *conn) control(h ws.Header, r io.Reader) error {
	p := make([]byte, h.Length) // at most 125 bytes, which the library has checked
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		return c.write(ws.NewPongFrame(p))
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(p)
		// The close frame is answered as well as it can be; the connection is over either way.
		_ = c.write(ws.NewCloseFrame(p[:min(len(p), 2)]))
		return &closedError{wire.CloseCode(code), reason}
	}
	return nil
}

// write sends one frame. After a close frame it sends nothing (RFC 6455 §5.5.1).
func (c *conn) write(f ws.Frame) error {
	b, err := ws.CompileFrame(ws.MaskFrameInPlace(f))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil
	}
	c.closing = f.Header.OpCode == ws.OpClose
	stuck := time.AfterFunc(writeTimeout, c.close)
	defer stuck.Stop()
	_, err = c.rwc.Write(b)
	return err
}

// close ends the connection without a word; reading and writing fail from then on.
func (c *conn) close() {
	// Its error says that it was closed before.
	_ = c.rwc.Close()
}

// watchdog closes a connection on which nothing comes for too long while somebody
// reads.
type watchdog struct {
	close  func()
	barked atomic.Bool // it has closed the connection

	mu    sync.Mutex // guards what follows
	limit time.Duration
	timer *time.Timer
}

func (w *watchdog) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, func() { w.barked.Store(true); w.close() })
		return
	}
	w.timer.Reset(w.limit)
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

// set changes the limit, also that of a reader who waits already.
func (w *watchdog) set(limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit = limit
	if w.timer != nil && w.timer.Stop() {
		w.timer.Reset(limit)
	}
}
