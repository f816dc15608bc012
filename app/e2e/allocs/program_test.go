//go:build !race

package allocs

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

const jwtSecret = "a secret of tokens of 32 bytes or more"

var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of webhooks of 32 bytes"))

// program is the whole program in this process. Its callers are raw connections and requests that were made
// beforehand, which allocate nothing, so that what is counted is the program's.
type program struct {
	t    testing.TB
	p    *server.Program
	made int      // webhooks
	http net.Conn // kept alive
	buf  [8 << 10]byte
}

func start(t testing.TB) *program {
	t.Helper()
	s := server.Defaults()
	s.Listen, s.DataDir, s.LogLevel = "127.0.0.1:0", t.TempDir(), "error"
	s.WebhookSecrets, s.JWTSecret = []server.Secret{server.Secret(webhookSecret)}, jwtSecret
	s.ConnectRate = 0
	p, err := server.NewProgram(context.Background(), s, nil, slog.New(slog.DiscardHandler))
	expect.NoError(t, err)
	expect.NoError(t, p.Start())
	t.Cleanup(func() { expect.NoError(t, p.Stop()) })
	out := &program{t: t, p: p}
	out.http = out.dial()
	return out
}

func (p *program) dial() net.Conn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.p.Addr())
	expect.NoError(p.t, err)
	expect.NoError(p.t, c.SetDeadline(time.Now().Add(10*expect.Patience)))
	p.t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// webhooks are signed requests to one user, as bytes on the wire.
func (p *program) webhooks(user string, n int) [][]byte {
	p.t.Helper()
	out := make([][]byte, n)
	for i := range out {
		p.made++
		body := fmt.Appendf(nil, `{"type":"patient.added","to":{"user":%q},"data":{"n":%d,"text":%q}}`, user, i, bytes.Repeat([]byte("x"), 200))
		h, err := auth.SignWebhook(webhookSecret, "msg_"+strconv.Itoa(p.made), time.Now(), body)
		expect.NoError(p.t, err)
		out[i] = fmt.Appendf(nil, "POST /webhooks/events HTTP/1.1\r\nHost: bridge\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
			"webhook-id: %s\r\nwebhook-timestamp: %s\r\nwebhook-signature: %s\r\n\r\n%s", len(body), h.ID, h.Timestamp, h.Signature, body)
	}
	return out
}

var (
	accepted    = []byte("HTTP/1.1 202 ")
	endOfHeader = []byte("\r\n\r\n")
	lengthName  = []byte("Content-Length: ")
)

// fire sends a webhook and reads its 202.
func (p *program) fire(request []byte) {
	if _, err := p.http.Write(request); err != nil {
		p.t.Fatal(err)
	}
	have, want := 0, -1
	for want < 0 || have < want {
		n, err := p.http.Read(p.buf[have:])
		if err != nil {
			p.t.Fatal(err)
		}
		have += n
		if end := bytes.Index(p.buf[:have], endOfHeader); want < 0 && end >= 0 {
			length := 0
			for _, digit := range p.buf[bytes.Index(p.buf[:end], lengthName)+len(lengthName):] {
				if digit < '0' || digit > '9' {
					break
				}
				length = 10*length + int(digit-'0')
			}
			want = end + len(endOfHeader) + length
		}
	}
	if !bytes.HasPrefix(p.buf[:have], accepted) {
		p.t.Fatalf("%s", p.buf[:have])
	}
}

// handshake is a session's upgrade and its first frame, as bytes on the wire.
type handshake struct{ upgrade, connect []byte }

func (p *program) handshake(user string) handshake {
	p.t.Helper()
	token, err := auth.SignToken(jwtSecret, auth.Claims{User: user, IssuedAt: time.Now(), Expires: time.Now().Add(time.Hour)})
	expect.NoError(p.t, err)
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`{"type":"connect"}`))))
	expect.NoError(p.t, err)
	return handshake{fmt.Appendf(nil, "GET /ws HTTP/1.1\r\nHost: bridge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\nAuthorization: Bearer %s\r\n\r\n", wire.Subprotocol, token), frame}
}

// session connects with a handshake and returns when the program has said so.
func (p *program) session(h handshake) net.Conn {
	c, err := net.Dial("tcp", p.p.Addr())
	if err == nil {
		_, err = c.Write(h.upgrade)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	for have := 0; !bytes.HasSuffix(p.buf[:have], endOfHeader); {
		n, err := c.Read(p.buf[have:])
		if err != nil {
			p.t.Fatal(err)
		}
		have += n
	}
	if _, err := c.Write(h.connect); err != nil {
		p.t.Fatal(err)
	}
	if frame := p.frame(c); !bytes.HasPrefix(frame, []byte(`{"type":"connected"`)) {
		p.t.Fatalf("%s", frame)
	}
	return c
}

// frame reads one text frame; it is valid until the next read.
func (p *program) frame(c net.Conn) []byte {
	head := p.buf[:2]
	p.read(c, head)
	length := int(head[1])
	if length == 126 {
		head = p.buf[:2]
		p.read(c, head)
		length = int(head[0])<<8 | int(head[1])
	}
	p.read(c, p.buf[:length])
	return p.buf[:length]
}

func (p *program) read(c net.Conn, b []byte) {
	if _, err := io.ReadFull(c, b); err != nil {
		p.t.Fatal(err)
	}
}
