package callback

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
)

// raw answers with bytes that no HTTP server would send: first, and then the same again and
// again until the bridge has hung up. Without again the connection is left open.
func raw(first, again string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		if _, err = io.WriteString(conn, first); again == "" && err == nil {
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		for err == nil {
			_, err = io.WriteString(conn, again)
		}
	}
}

func gzipped(n int) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, n)) // a bytes.Buffer takes everything
	_ = z.Close()
	return b.String()
}

func TestBadReply(t *testing.T) {
	const head, failed = "HTTP/1.1 200 OK\r\n", "the connection failed"
	bomb := gzipped(10 << 20)
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		status   int    // of the BackendError, or of the reply; -1: ErrBackendTimeout
		why      string // of the BackendError; null: it was answered, with null
		callback string // what became of it: done, or Last
	}{
		"of 100 MB with its length":         {raw(head+"Content-Length: 104857600\r\n\r\n", strings.Repeat(" ", 64<<10)), 200, "its reply is too long", "done"},
		"of 100 MB in chunks":               {raw(head+"Transfer-Encoding: chunked\r\n\r\n", "10000\r\n"+strings.Repeat(" ", 64<<10)+"\r\n"), 200, "its reply is too long", "done"},
		"of one chunk of 100 MB":            {raw(head+"Transfer-Encoding: chunked\r\n\r\n6400000\r\n", strings.Repeat(" ", 64<<10)), 200, "its reply is too long", "done"},
		"that stops before its end":         {raw(head+"Content-Length: 100\r\n\r\n{", ""), -1, "", "done"},
		"of a chunk that does not end":      {raw(head+"Transfer-Encoding: chunked\r\n\r\n64\r\n{", ""), -1, "", "done"},
		"of chunks with endless extensions": {raw(head+"Transfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("x", 1024)), 200, failed, "done"},
		"of endless trailers":               {raw(head+"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "X-Y: "+strings.Repeat("z", 1000)+"\r\n"), 200, failed, "done"},
		"with two lengths":                  {raw(head+"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", ""), 0, failed, failed},
		"with a length that is none":        {raw(head+"Content-Length: -2\r\n\r\n{}", ""), 0, failed, failed},
		"that is not HTTP":                  {raw("220 mail.example ESMTP\r\n", ""), 0, failed, failed},
		"of endless early hints":            {raw("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), 0, failed, failed},
		"of endless continues":              {raw("", "HTTP/1.1 100 Continue\r\n\r\n"), 0, failed, failed},
		"that switches protocols":           {raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n", "x"), 101, "not a 2xx status", "status 101"},
		"that switches and says nothing":    {raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n", ""), 101, "not a 2xx status", "status 101"},
		"of endless headers":                {raw(head, "X-Y: z\r\n"), 0, failed, failed},
		"of one endless header":             {raw(head+"X-Y: ", strings.Repeat("z", 1024)), 0, failed, failed},
		"of an endless status":              {raw("HTTP/1.1 200 ", strings.Repeat("z", 1024)), 0, failed, failed},
		"of 10 MB in 10 kB":                 {raw(head+"Content-Encoding: gzip\r\nContent-Length: "+strconv.Itoa(len(bomb))+"\r\n\r\n"+bomb, ""), 200, "its reply is too long", "done"},
		"that is compressed unasked":        {raw(head+"Content-Encoding: gzip\r\nContent-Length: "+strconv.Itoa(len(gzipped(9)))+"\r\n\r\n"+gzipped(9), ""), 200, "its reply is not JSON", "done"},
		"204 with a body":                   {raw("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\ncanary", ""), 204, "null", "done"},
		"205 with a body":                   {raw("HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\n{}", ""), 205, "", "done"},
		"304 with a body":                   {raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\ncanary", ""), 304, "not a 2xx status", "status 304: redirects are not followed"},
		"of a status that is none":          {raw("HTTP/1.1 099 Canary\r\nContent-Length: 0\r\n\r\n", ""), 99, "not a 2xx status", "status 99"},
		"of a status beyond all":            {raw("HTTP/1.1 999 Canary\r\nContent-Length: 0\r\n\r\n", ""), 999, "not a 2xx status", "status 999"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(t, c.answer)
			timeout := 30 * time.Second
			if c.status == -1 {
				timeout = 50 * time.Millisecond
			}
			status, body, err := w.ask(t, timeout)
			var failed *bridge.BackendError
			switch {
			case c.status == -1:
				if !errors.Is(err, bridge.ErrBackendTimeout) {
					t.Error(err)
				}
			case c.why == "null", c.why == "":
				if err != nil || status != c.status || c.why == "null" && body != "null" {
					t.Errorf("%d %q %v", status, body, err)
				}
			case !errors.As(err, &failed) || failed.Status != c.status || failed.Why != c.why:
				t.Errorf("%d %q %v", status, body, err)
			}
			w.byName["default"].endpoint.http.CloseIdleConnections() // nobody answers on them any more
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			r, _ := w.byName["default"].endpoint.post(ctx, "msg_1", []byte("{}"), 0)
			if got := r.last(); r.ok() != (c.callback == "done") || !r.ok() && got != c.callback {
				t.Error(r.status, got)
			}
		})
	}
}
