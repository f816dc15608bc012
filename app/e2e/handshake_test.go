package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	t.Run("is RFC 6455's or is refused", handshakeRules)
}

// exchange sends a request as bytes and reads the reply to it.
func (w *world) exchange(request string) (*http.Response, []byte) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.p.Addr())
	expect.NoError(w.t, err)
	defer conn.Close()
	expect.NoError(w.t, conn.SetDeadline(time.Now().Add(expect.Patience)))
	_, err = io.WriteString(conn, request)
	expect.NoError(w.t, err)
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	expect.NoError(w.t, err)
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res, nil
	}
	b, err := io.ReadAll(res.Body)
	expect.NoError(w.t, err)
	return res, b
}

func handshakeRules(t *testing.T) {
	t.Parallel()
	w := start(t)
	whole := upgradeRequest(w.p.Addr())
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	const version = "Sec-WebSocket-Version: 13\r\n"
	for _, c := range []struct {
		name, from, to string
		status         int
	}{
		{"as it should be", "", "", 101},
		{"names and tokens in another case", "Upgrade: websocket\r\nConnection: Upgrade", "UPGRADE: WebSocket\r\nconnection: upgrade", 101},
		{"lists of tokens", "Upgrade: websocket\r\nConnection: Upgrade", "Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade", 101},
		{"lists over two lines", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade", 101},
		{"upgrades over two lines", "Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket", 101},
		{"an extension that is offered", version, version + "Sec-WebSocket-Extensions: permessage-deflate\r\n", 101},
		{"an empty body", version, version + "Content-Length: 0\r\n", 101},

		{"no key", key, "", 400},
		{"an empty key", key, "Sec-WebSocket-Key: \r\n", 400},
		{"a key of 15 bytes", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", 400},
		{"a key of 17 bytes", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=\r\n", 400},
		{"a key of 18 bytes", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWVl\r\n", 400},
		{"a key without padding", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400},
		{"a key that is no base64", key, "Sec-WebSocket-Key: !GhlIHNhbXBsZSBub25jZQ==\r\n", 400},
		{"a key in base64url", key, "Sec-WebSocket-Key: __hlIHNhbXBsZSBub25jZQ==\r\n", 400},
		{"two keys", key, key + key, 400},
		{"two keys in one line", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==\r\n", 400},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400},
		{"a body", version, version + "Content-Length: 1\r\n", 400},
		{"a chunked body", version, version + "Transfer-Encoding: chunked\r\n", 400},
		{"HEAD", "GET", "HEAD", 405},
		{"POST", "GET", "POST", 405},

		{"no version", version, "", 426},
		{"version 8", version, "Sec-WebSocket-Version: 8\r\n", 426},
		{"version 130", version, "Sec-WebSocket-Version: 130\r\n", 426},
		{"version 13 and 8", version, "Sec-WebSocket-Version: 13, 8\r\n", 426},
		{"two versions", version, version + "Sec-WebSocket-Version: 8\r\n", 426},
		{"no Connection", "Connection: Upgrade\r\n", "", 426},
		{"another Connection", "Connection: Upgrade", "Connection: keep-alive", 426},
		{"a Connection like it", "Connection: Upgrade", "Connection: Upgraded", 426},
		{"no Upgrade", "Upgrade: websocket\r\n", "", 426},
		{"another Upgrade", "Upgrade: websocket", "Upgrade: h2c", 426},
		{"an Upgrade like it", "Upgrade: websocket", "Upgrade: websocket2", 426},
	} {
		request := strings.Replace(whole, c.from, c.to, 1)
		if strings.Contains(request, "Content-Length: 1\r\n") {
			request += "x"
		} else if strings.Contains(request, "chunked") {
			request += "1\r\nx\r\n0\r\n\r\n"
		}
		res, body := w.exchange(request)
		if res.StatusCode != c.status {
			t.Errorf("%s: %d %s", c.name, res.StatusCode, body)
			continue
		}
		if accept := res.Header.Get("Sec-WebSocket-Accept"); c.status == 101 && accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Errorf("%s: accepted with %q", c.name, accept)
		}
		if res.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("%s: an extension was chosen", c.name)
		}
		if c.status == 426 && (res.Header.Get("Sec-WebSocket-Version") != "13" || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade") {
			t.Errorf("%s: %v", c.name, res.Header)
		}
		var p struct{ Code, Detail string }
		if c.status != 101 && c.name != "HEAD" && (res.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(body, &p) != nil || p.Code == "" || p.Detail == "") {
			t.Errorf("%s: %v %s", c.name, res.Header, body)
		}
	}
}
