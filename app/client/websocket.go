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

// errNotBridge says that the server has upgraded to something else than our subprotocol.
var errNotBridge = fmt.Errorf("the other side does not speak %s; is the address right?", wire.Subprotocol)

// errSilent says that a connection was closed because nothing came on it.
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
	rwc io.ReadWriteCloser
	rd  wsutil.Reader

	patience atomic.Int64 // how long nothing may come while read waits; a time.Duration
	silence  *time.Timer  // closes the connection when that time is over
	silent   atomic.Bool  // the connection was closed by the timer

	mu      sync.Mutex // held while a frame is written; guards closing
	closing bool       // a close frame was written, which nothing may follow
}

// dial opens a connection, on which nothing may come for as long as patience. Its error is a
// *ProblemError for an HTTP reply other than 101, errNotBridge for an upgrade that is
// not to our subprotocol, or the network's.
func dial(ctx context.Context, hc *http.Client, url, token string, plain bool, maxFrame int64, patience time.Duration) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
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
	c.patience.Store(int64(patience))
	c.silence = time.AfterFunc(patience, func() { c.silent.Store(true); c.close() })
	return c, nil
}

// read returns the next text message. It answers pings, which tells the bridge that
// all frames before them have arrived. The error is a *closedError after a close frame,
// wsutil.ErrMessageTooLarge, errSilent, or the network's.
func (c *conn) read() ([]byte, error) {
	defer c.silence.Stop() // the caller may take its time with the message
	for {
		c.silence.Reset(time.Duration(c.patience.Load()))
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
			if c.silent.Load() {
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
		// If the answer cannot be sent, the connection has ended all the same.
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

// expect sets how long nothing may come, from now on.
func (c *conn) expect(patience time.Duration) {
	c.patience.Store(int64(patience))
	c.silence.Reset(patience)
}

// close ends the connection without a word; reading and writing fail from then on.
func (c *conn) close() {
	c.silence.Stop()
	_ = c.rwc.Close() // it fails where it was closed before
}
