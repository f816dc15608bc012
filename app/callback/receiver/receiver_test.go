package receiver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
)

func TestReceiver(t *testing.T) {
	t.Run("takes what has a good signature", receiverTakes)
	t.Run("answers a request", receiverAnswers)
	t.Run("passes everything on as it came", receiverPassesOn)
	t.Run("says why nobody has answered behind it, and quotes nothing", receiverForwardFails)
	t.Run("does not pass on to itself", receiverLoops)
	t.Run("refuses options that cannot be right", receiverOptions)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "whsec_Y2FsbGJhY2stc2VjcmV0LW9mLTMyLWJ5dGVzISEhISE="
	other  = "whsec_YW5vdGhlci1jYWxsYmFjay1zZWNyZXQtb2YtMzItYnk="
)

// signed is a request that the official library has signed.
func signed(t *testing.T, with, body string) *http.Request {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(with)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := w.Sign("msg_1", now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	for name, value := range map[string]string{"webhook-id": "msg_1", "webhook-timestamp": strconv.FormatInt(now.Unix(), 10), "webhook-signature": signature, "Content-Type": "application/json", "X-Own": "a"} {
		r.Header.Set(name, value)
	}
	return r
}

// receive is a Receiver's answer to one request, and what it told of.
func receive(t *testing.T, o Options, r *http.Request) (*httptest.ResponseRecorder, []Received, []error) {
	t.Helper()
	var got []Received
	var problems []error
	o.Secrets = []string{other, secret}
	o.OnReceived = func(r Received) { got = append(got, r) }
	o.OnProblem = func(err error) { problems = append(problems, err) }
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, got, problems
}

func receiverTakes(t *testing.T) {
	const body = `{"type":"event.acked", "data":{"a":1,"a":2}}`
	for _, with := range []string{secret, other} {
		w, got, problems := receive(t, Options{}, signed(t, with, body))
		if w.Code != 204 || len(got) != 1 || got[0].ID != "msg_1" || got[0].Type != "event.acked" || string(got[0].Body) != body || problems != nil {
			t.Errorf("%d %v %v", w.Code, got, problems)
		}
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		why    string
	}{
		"GET":                  {func(r *http.Request) { r.Method = "GET" }, 405, "POST"},
		"no signature":         {func(r *http.Request) { r.Header.Del("webhook-signature") }, 401, "webhook-signature is missing"},
		"an old one":           {func(r *http.Request) { r.Header.Set("webhook-timestamp", "1700000000") }, 401, "behind"},
		"a bad id":             {func(r *http.Request) { r.Header.Set("webhook-id", "a.b") }, 400, "webhook-id"},
		"another body":         {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{}`)) }, 401, "none matches"},
		"a body too long":      {func(r *http.Request) { r.Body = io.NopCloser(bytes.NewReader(make([]byte, MaxBytes+1))) }, 413, "longer"},
		"a body that ends":     {func(r *http.Request) { r.Body = io.NopCloser(broken{}) }, 400, "too early"},
		"another one's secret": {func(r *http.Request) { *r = *signed(t, "whsec_bm9ib2R5cy1zZWNyZXQtb2YtMzItYnl0ZXMtLS0tLS0=", body) }, 401, "none matches"},
		"no JSON":              {func(r *http.Request) { *r = *signed(t, secret, "hello") }, 400, "no callback"},
		"no type":              {func(r *http.Request) { *r = *signed(t, secret, "{}") }, 400, "with a type"},
	} {
		r := signed(t, secret, body)
		c.change(r)
		w, got, problems := receive(t, Options{}, r)
		if w.Code != c.status || got != nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), c.why) {
			t.Errorf("%s: %d %v %v", name, w.Code, got, problems)
		}
	}
}

// broken is a body whose sender hangs up.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func receiverAnswers(t *testing.T) {
	const body = `{"type":"request","data":{}}`
	for _, c := range []struct {
		answer func() ([]byte, error)
		status int
		want   string
	}{
		{nil, 200, "{}"},
		{func() ([]byte, error) { return []byte(`{"slots": [1]}`), nil }, 200, `{"slots": [1]}`},
		{func() ([]byte, error) { return nil, errors.New("no file") }, 500, "no file\n"},
	} {
		w, got, _ := receive(t, Options{Answer: c.answer}, signed(t, secret, body))
		if w.Code != c.status || w.Body.String() != c.want || len(got) != 1 {
			t.Errorf("%d %s %v", w.Code, w.Body, got)
		}
	}
}

func receiverPassesOn(t *testing.T) {
	const body = "{\"type\":\"request\",\n \"data\":{\"a\":1,\"a\":2}}"
	var status int
	var reply string
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		official, err := standardwebhooks.NewWebhook(secret)
		if err != nil || official.Verify(b, r.Header) != nil || string(b) != body || r.URL.String() != "/hook?x=1" || r.Header.Get("X-Own") != "a" || r.ContentLength != int64(len(body)) {
			t.Errorf("%s %s %v", r.URL, b, r.Header)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, reply)
	}))
	defer behind.Close()
	o := Options{Forward: behind.URL + "/hook?x=1"}
	for _, status = range []int{200, 302, 404, 410, 503} {
		reply = `{"status":` + strconv.Itoa(status) + `}`
		w, _, problems := receive(t, o, signed(t, secret, body))
		if w.Code != status || w.Body.String() != reply || w.Header().Get("Retry-After") != "7" || problems != nil {
			t.Errorf("%d %s %v", w.Code, w.Body, problems)
		}
	}
	status, reply = 200, strings.Repeat("x", MaxBytes+1)
	if w, _, problems := receive(t, o, signed(t, secret, body)); w.Code != 502 || len(problems) != 1 || !strings.Contains(problems[0].Error(), "longer than") {
		t.Errorf("%d %v", w.Code, problems)
	}
	o.Answer = func() ([]byte, error) { return []byte("[]"), nil }
	if w, _, _ := receive(t, o, signed(t, secret, body)); w.Body.String() != "[]" {
		t.Errorf("a request that has an answer: %s", w.Body)
	}
	behind.Close()
	o.Answer = nil
	if w, got, problems := receive(t, o, signed(t, secret, body)); w.Code != 502 || len(got) != 1 || len(problems) != 1 || !strings.Contains(problems[0].Error(), "has not answered") {
		t.Errorf("%d %v %v", w.Code, got, problems)
	}
}

// receiverForwardFails has programs behind it that answer what cannot be passed back. The
// error of the library quotes some of it.
func receiverForwardFails(t *testing.T) {
	for reply, want := range map[string]string{
		"":                                  "the connection failed",
		"SSH-2.0-canary\r\n":                "the connection failed",
		"HTTP/1.1 canary\r\n\r\n":           "the connection failed",
		"HTTP/1.1 200 OK\r\ncanary\r\n\r\n": "the connection failed",
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncanary":                         "the connection failed",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n":             "the connection failed",
		"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n":                           "the connection failed",
		"HTTP/1.1 101 canary\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\ncanary": "its reply has the status 101",
		"HTTP/1.1 099 canary\r\nContent-Length: 0\r\n\r\n":                            "its reply has the status 99",
		"HTTP/1.1 000 canary\r\nContent-Length: 0\r\n\r\n":                            "its reply has the status 0",
	} {
		behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, reply)
			conn.Close()
		}))
		o := Options{Forward: strings.Replace(behind.URL, "http://", "http://canary:canary@", 1) + "/canary?canary"}
		w, got, problems := receive(t, o, signed(t, secret, `{"type":"request"}`))
		behind.Close()
		said := "the program that callbacks are forwarded to has not answered: " + want
		if w.Code != 502 || len(got) != 1 || len(problems) != 1 || problems[0].Error() != said || w.Body.String() != said+"\n" {
			t.Errorf("%q: %d %q %v", reply, w.Code, w.Body, problems)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer behind.Close()
	_, _, problems := receive(t, Options{Forward: behind.URL}, signed(t, secret, `{"type":"request"}`).WithContext(ended))
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "it took longer than the bridge waits") {
		t.Error(problems)
	}
}

// A receiver that is told to pass on to its own address, or to another that passes back.
func receiverLoops(t *testing.T) {
	var handlers [3]atomic.Pointer[Receiver]
	var urls [3]string
	for i := range handlers {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handlers[i].Load().ServeHTTP(w, r) }))
		defer s.Close()
		urls[i] = s.URL
	}
	var mu sync.Mutex
	var came int
	var said []error
	start := func(i, to int) {
		o := Options{Secrets: []string{secret}, OnReceived: func(Received) { mu.Lock(); came++; mu.Unlock() }, OnProblem: func(err error) { mu.Lock(); said = append(said, err); mu.Unlock() }}
		if to >= 0 {
			o.Forward = urls[to]
		}
		r, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		handlers[i].Store(r)
	}
	for name, c := range map[string]struct {
		to     [3]int
		status int
		came   int
	}{"to itself": {[3]int{0, -1, -1}, 508, 1}, "to another and back": {[3]int{1, 0, -1}, 508, 2}, "to a chain that ends": {[3]int{1, 2, -1}, 204, 3}} {
		came, said = 0, nil
		for i, to := range c.to {
			start(i, to)
		}
		w := httptest.NewRecorder()
		handlers[0].Load().ServeHTTP(w, signed(t, secret, `{"type":"event.acked"}`))
		mu.Lock()
		if w.Code != c.status || came != c.came || (len(said) == 1) != (c.status == 508) {
			t.Errorf("%s: %d, it came %d times, %v", name, w.Code, came, said)
		}
		mu.Unlock()
	}
}

func receiverOptions(t *testing.T) {
	for _, forward := range []string{"127.0.0.1:3000", "ftp://a", "http://", "http://:80/", "\x00", "http://a:0/", "http://a:65536/", "http://a:b/", "//a/", "http://canary:canary@[::1/"} {
		if _, err := New(Options{Secrets: []string{secret}, Forward: forward}); !errors.Is(err, ErrForward) {
			t.Errorf("%q: %v", forward, err)
		}
	}
	for _, secrets := range [][]string{nil, {"whsec_canary"}} {
		if _, err := New(Options{Secrets: secrets}); err == nil || strings.Contains(err.Error(), "canary") {
			t.Error(err)
		}
	}
}
