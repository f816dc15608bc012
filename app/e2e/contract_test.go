package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"hookbridge/handlers/contract"
	"hookbridge/handlers/contract/check"
)

func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("is served", contractServed)
}

// contractOf compiles the documents once.
var contractOf = sync.OnceValues(check.New)

// checked is how long a body or a frame may be that is held against the contract: reading a
// longer one takes a second with the race detector, and all that is longer about it is the
// event's data, of which the contract says nothing.
const checked = 1 << 20

// contractual is the transport of every test's requests: what is said over it
// is held against openapi.json.
type contractual struct {
	t    testing.TB
	base *http.Transport
}

func (c *contractual) CloseIdleConnections() { c.base.CloseIdleConnections() }

func (c *contractual) RoundTrip(req *http.Request) (*http.Response, error) {
	x := check.Exchange{Method: req.Method, Path: req.URL.EscapedPath(), Header: req.Header}
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		x.Body = b
		req.Body = io.NopCloser(bytes.NewReader(b))
	}
	res, err := c.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if x.Reply, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(x.Reply))
	page := x.Path == "/" || strings.HasPrefix(x.Path, "/demo/") || strings.ContainsAny(x.Path[strings.LastIndex(x.Path, "/"):], ".") && !strings.HasSuffix(x.Path, ".json")
	if page || req.Method == http.MethodOptions || res.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
		return res, nil // the page is for people, and 431 comes before there is a path
	}
	if len(x.Body) > checked || len(x.Reply) > checked {
		return res, nil
	}
	x.Status, x.ReplyHeader = res.StatusCode, res.Header
	k, err := contractOf()
	if err != nil {
		return nil, err
	}
	if err := k.Exchange(x); err != nil {
		c.t.Errorf("outside the contract: %v\n%.300s", err, x.Reply)
	}
	return res, nil
}

// checkFrame holds what a session is sent against asyncapi.json.
func (s *session) checkFrame(raw []byte) {
	if len(raw) > checked {
		return
	}
	k, err := contractOf()
	if err != nil {
		s.t.Error(err)
		return
	}
	fits := k.PlainServerFrame
	if s.ws.Subprotocol() != "" {
		fits = k.ServerFrame
	}
	if err := fits(raw); err != nil {
		s.t.Errorf("outside the contract: %v\n%.300s", err, raw)
	}
}

func contractServed(t *testing.T) {
	t.Parallel()
	w := start(t)
	for path, want := range map[string][]byte{"/openapi.json": contract.OpenAPI, "/asyncapi.json": contract.AsyncAPI} {
		if a := w.callAs("", "GET", path, ""); a.HTTP != 200 || a.Raw != string(want) || a.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", path, a.HTTP, a.Header)
		}
	}
}

// webhookContract holds what a backend gets against the contract.
func webhookContract(body []byte) error {
	k, err := contractOf()
	if err != nil {
		return err
	}
	return k.Webhook(body)
}
