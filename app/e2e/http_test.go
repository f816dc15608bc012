package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	t.Run("answers other paths and methods with problems", httpProblems)
	t.Run("answers an unknown method with a problem", httpUnknownMethod)
	t.Run("answers a header too large with 431 and repeats nothing", httpLargeHeader)
	t.Run("ends slow and half-sent requests", httpSlow)
	t.Run("takes Expect and chunks and keeps the connection", httpExpect)
	t.Run("says that a compressed body is not taken", httpCompressed)
	t.Run("is served under the prefix", httpPrefix)
}

// upgradeRequest is a browser's handshake, as bytes.
func upgradeRequest(host string) string {
	return "GET /ws HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: bridge.v1.json\r\n\r\n"
}

// announced is the head of a webhook whose headers are as they should be; what
// signs the body, nobody can tell before it is here.
func announced(path string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nwebhook-id: m1\r\nwebhook-timestamp: %d\r\n"+
		"webhook-signature: v1,%s\r\nContent-Length: %d\r\n\r\n", path, time.Now().Unix(), strings.Repeat("A", 43)+"=", length)
}

func httpProblems(t *testing.T) {
	t.Parallel()
	w := start(t)
	for path, want := range map[string]string{
		"GET /nowhere": "404 not_found", "GET /webhooks/events": "405 method_not_allowed", "DELETE /v1/tickets": "405 method_not_allowed",
		"POST /v1/tickets": "401 unauthorized", "GET /ws": "426 upgrade_required", "GET /demo.js": "404 not_found", "GET /": "404 not_found",
	} {
		method, p, _ := strings.Cut(path, " ")
		req, err := http.NewRequest(method, w.base+p, nil)
		expect.NoError(t, err)
		a := w.do(req)
		if got := fmt.Sprint(a.HTTP, " ", a.Code); got != want || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s %s", path, got, a.Raw)
		}
	}
	for _, p := range []string{"/livez", "/readyz", "/metrics", "/bridge-client.js", "/bridge.js"} {
		req, err := http.NewRequest(http.MethodGet, w.base+p, nil)
		expect.NoError(t, err)
		// Pages of any origin may import the client.
		if a := w.do(req); a.HTTP != 200 || strings.HasSuffix(p, ".js") && a.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v %s", p, a.HTTP, a.Header, a.Raw)
		}
	}
}

func httpUnknownMethod(t *testing.T) {
	t.Parallel()
	w := start(t)
	req, err := http.NewRequest("BREW", w.base+"/webhooks/events", nil)
	expect.NoError(t, err)
	res, err := http.DefaultTransport.RoundTrip(req) // the contract knows no such method
	expect.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	expect.NoError(t, err)
	if res.StatusCode != 400 || res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(b), `"code":"malformed"`) {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, b)
	}
}

func httpLargeHeader(t *testing.T) {
	t.Parallel()
	w := start(t)
	req, err := http.NewRequest(http.MethodGet, w.base+"/ws", nil)
	expect.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+strings.Repeat("canary", 4000))
	if a := w.do(req); a.HTTP != 431 || strings.Contains(a.Raw, "canary") {
		t.Errorf("%d %.200s", a.HTTP, a.Raw)
	}
	if strings.Contains(w.logs.String(), "canary") {
		t.Error("the log repeats the header")
	}
}

func httpSlow(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.Times.Request = time.Second })
	var wg sync.WaitGroup
	for name, sent := range map[string]string{
		"nothing":       "",
		"half a header": "POST /webhooks/events HTTP/1.1\r\nHost: x\r\nContent-",
		"half a body":   announced("/webhooks/events", 100) + `{"type":`,
		"no body":       announced("/webhooks/events", 100),
	} {
		wg.Go(func() {
			conn, err := net.Dial("tcp", w.p.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Error(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			b, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("%s: still open: %v", name, err)
			}
			if sent != "" && !(bytes.Contains(b, []byte("408")) && bytes.Contains(b, []byte("application/problem+json"))) {
				t.Errorf("%s: %.100s", name, b)
			}
			if bytes.Contains(b, []byte("Content-\r\n")) {
				t.Errorf("%s: the reply repeats the request", name)
			}
		})
	}
	wg.Wait()
}

func httpExpect(t *testing.T) {
	t.Parallel()
	w := start(t)
	conn := w.raw("")
	reader := bufio.NewReader(conn)
	for i := range 4 {
		body := `{"type":"t","to":{"user":"u"},"data":"` + strings.Repeat("x", i*20_000) + `"}`
		req := w.sign(w.nextID(), body, time.Now())
		switch i % 3 {
		case 1:
			req.ContentLength, req.TransferEncoding = -1, []string{"chunked"}
		case 2:
			req.Header.Set("Expect", "100-continue")
		}
		expect.NoError(t, req.Write(conn))
		res, err := http.ReadResponse(reader, req)
		expect.NoError(t, err)
		if i%3 == 2 {
			if res.StatusCode != 100 {
				t.Fatalf("%d: %d", i, res.StatusCode)
			}
			res, err = http.ReadResponse(reader, req)
			expect.NoError(t, err)
		}
		answer, err := io.ReadAll(res.Body)
		expect.NoError(t, err)
		if res.StatusCode != 202 || res.Close {
			t.Fatalf("%d: %d %v %s", i, res.StatusCode, res.Close, answer)
		}
	}
}

func httpCompressed(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, `{"backend":["*"],"admin":["presence","sessions"]}`)
	for path, body := range map[string]string{
		"/v1/sends": `{"ref":"r","to":{"backend":true},"event":{"type":"t"}}`, "/v1/requests": `{"event":{"type":"t"}}`,
		"/v1/acks": `{"cursor":"x"}`, "/v1/presence": `{"users":["u"]}`, "/v1/users/u/revocations": `{"issuedBefore":1}`,
	} {
		req, err := http.NewRequest(http.MethodPost, w.base+path, strings.NewReader(body))
		expect.NoError(t, err)
		req.Header = http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"application/json"}, "Authorization": {"Bearer " + tok}}
		if a := w.do(req); a.HTTP != 415 || a.Code != "unsupported_media_type" || !strings.Contains(a.Detail, "Content-Encoding") {
			t.Errorf("%s: %d %s", path, a.HTTP, a.Raw)
		}
	}
}

func httpPrefix(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.PathPrefix = "/team/bridge" })
	const prefix = "/team/bridge"
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		for _, p := range []string{path, prefix + path} {
			res, err := http.Get(w.base + p)
			expect.NoError(t, err)
			expect.NoError(t, res.Body.Close())
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", p, res.StatusCode)
			}
		}
	}
	w.client.Transport = http.DefaultTransport // the contract knows no prefix
	bare := w.base
	w.base += prefix
	s := w.connect("patient-1", "")
	if a := w.fireTo("patient-1", 1); a.Status != "sent" {
		t.Errorf("%s", a.Raw)
	}
	s.want("event")
	if a := w.callAs(token(t, "patient-1", time.Hour, ""), http.MethodGet, "/v1/poll?waitMs=0", ""); a.HTTP != http.StatusOK || !strings.Contains(a.Raw, `"n":1`) {
		t.Errorf("poll: %d %s", a.HTTP, a.Raw)
	}
	items := make([]string, 40) // larger than one event may be
	for i := range items {
		items[i] = fmt.Sprintf(`{"id":"b%d","type":"t","to":{"user":"patient-2"},"data":%q}`, i, strings.Repeat("x", 2000))
	}
	if a := w.do(w.signFor("/webhooks/events/batch", "application/json", "batch", `{"events":[`+strings.Join(items, ",")+`]}`, time.Now())); a.HTTP != http.StatusAccepted {
		t.Errorf("batch: %d %.200s", a.HTTP, a.Raw)
	}
	if a := w.callAs("", http.MethodGet, "/bridge-client.js", ""); a.HTTP != http.StatusOK {
		t.Errorf("the client: %d", a.HTTP)
	}
	w.base = bare
	for _, path := range []string{"/ws", "/v1/poll", "/openapi.json", "/team", prefix, prefix + "s/ws", "/"} {
		if a := w.callAs("", http.MethodGet, path, ""); a.HTTP != http.StatusNotFound || a.Code != "not_found" {
			t.Errorf("%s: %d %s", path, a.HTTP, a.Raw)
		}
	}
}
