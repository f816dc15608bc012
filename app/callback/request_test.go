package callback

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestRequest(t *testing.T) {
	t.Run("is answered byte for byte", requestIsAnswered)
	t.Run("does not follow a redirect", requestIsRedirected)
	t.Run("reads no more of a large reply than is allowed", requestLargeReply)
	t.Run("to a backend that cannot be reached fails", requestUnreachable)
	t.Run("to a plain server at an https URL fails", requestPlainServer)
	t.Run("is one of a bounded number, and ends with its caller and with the sender", requestsAreBounded)
	t.Run("waits for its turn where a backend is asked by many at once", requestsTakeTurns)
	t.Run("uses a connection again", requestConnections)
	t.Run("uses no proxy of the environment", requestProxies)
	t.Run("that fails is logged without what was sent and replied", requestFailure)
}

// canary is a part of the URL, of the request and of the reply. It must not be in any
// log or error.
const canary = "canary-4711"

// world is a Sender to one backend, default, that is a real server on this machine.
type world struct {
	*Sender
	logs   *logs
	server *httptest.Server
	conns  atomic.Int64
}

// serve starts a backend that speaks TLS, and HTTP/2 if asked for.
func serve(t *testing.T, h http.HandlerFunc, change ...func(*httptest.Server)) *world {
	t.Helper()
	w := new(world)
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server hears of a client that is gone once it has read all
		h(w, r)
	}))
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.conns.Add(1)
		}
	}
	for _, f := range change {
		f(w.server)
	}
	w.server.StartTLS()
	w.Sender, w.logs = sender(t, backend("default", strings.Replace(w.server.URL, "https://", "https://"+canary+":"+canary+"@", 1)+"/hook?"+canary))
	roots := x509.NewCertPool()
	roots.AddCert(w.server.Certificate())
	w.byName["default"].endpoint.tls.RootCAs = roots
	t.Cleanup(func() {
		stop(w.Sender)
		w.server.CloseClientConnections()
		w.server.Close()
		if strings.Contains(w.logs.String(), canary) {
			t.Errorf("logged: %s", w.logs)
		}
	})
	return w
}

// ask makes a request, and holds its error to the rule that it repeats nothing.
func (w *world) ask(t *testing.T, timeout time.Duration) (status int, body string, err error) {
	t.Helper()
	status, b, err := w.Request(t.Context(), "default", "msg_1", []byte(`{"data":"`+canary+`"}`), timeout)
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("the error repeats what it must not: %v", err)
	}
	return status, string(b), err
}

// reply answers every request.
func replies(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func requestIsAnswered(t *testing.T) {
	for body, want := range map[string]string{
		`{"slots":[1e400, "\ud800"],"a":1,"a":2 }`: `{"slots":[1e400, "\ud800"],"a":1,"a":2 }`,
		"\r\n [1]\n": "\r\n [1]\n", "null": "null", `"text"`: `"text"`, "": "null", " \n": "null",
		strings.Repeat("1", 1024): strings.Repeat("1", 1024),
	} {
		w := serve(t, replies(201, body))
		if status, got, err := w.ask(t, 10*time.Second); status != 201 || got != want || err != nil {
			t.Errorf("%q: %d %q %v", body, status, got, err)
		}
	}
}

// What becomes of a request and of a callback with each kind of bad backend.
func TestBadBackend(t *testing.T) {
	drip := func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			_, err := io.WriteString(w, " ")
			if http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		distrust bool // nobody whom we trust has signed its certificate
		status   int  // of the BackendError; -1: ErrBackendTimeout
		why      string
		callback string // what became of it: done, or Last
	}{
		"answers with HTML":                {answer: replies(200, "<html>"+canary), status: 200, why: "its reply is not JSON", callback: "done"},
		"answers with half a JSON":         {answer: replies(200, `{"a":"`+canary), status: 200, why: "its reply is not JSON", callback: "done"},
		"answers with a level too many":    {answer: replies(200, strings.Repeat("[", 501)+strings.Repeat("]", 501)), status: 200, why: "its reply is not JSON", callback: "done"},
		"answers with a byte too many":     {answer: replies(200, strings.Repeat("1", 1025)), status: 200, why: "its reply is too long", callback: "done"},
		"answers with 404":                 {answer: replies(404, canary), status: 404, why: "not a 2xx status", callback: "status 404"},
		"answers with 500":                 {answer: replies(500, canary), status: 500, why: "not a 2xx status", callback: "status 500"},
		"never answers":                    {answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, status: -1, callback: "it took too long"},
		"answers one byte after the other": {answer: drip, status: -1, callback: "done"},
		"has a certificate of nobody":      {answer: replies(200, "{}"), distrust: true, why: "its TLS is broken or its certificate not valid", callback: "its TLS is broken or its certificate not valid"},
		"hangs up":                         {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, why: "the connection failed", callback: "the connection failed"},
		"has a huge header": {answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", maxReplyHeader)) },
			why: "the connection failed", callback: "the connection failed"},
		"says that its reply is compressed": {answer: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				panic("asked for compression")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3})
		}, status: 200, why: "its reply is not JSON", callback: "done"},
	} {
		t.Run("that "+name, func(t *testing.T) {
			w := serve(t, c.answer)
			if c.distrust {
				w.byName["default"].endpoint.tls.RootCAs = nil
			}
			timeout := 10 * time.Second
			if c.status == -1 {
				timeout = 50 * time.Millisecond
			}
			_, _, err := w.ask(t, timeout)
			var failed *bridge.BackendError
			if c.status == -1 && !errors.Is(err, bridge.ErrBackendTimeout) {
				t.Error(err)
			}
			if c.status != -1 && (!errors.As(err, &failed) || failed.Status != c.status || failed.Why != c.why) {
				t.Error(err)
			}
			if c.callback == "done" {
				timeout = 10 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			r, _ := w.byName["default"].endpoint.post(ctx, "msg_1", []byte("{}"), 0)
			if got := r.last(); r.ok() && c.callback != "done" || !r.ok() && got != c.callback {
				t.Error(r.status, got)
			}
		})
	}
}

func requestIsRedirected(t *testing.T) {
	var followed atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	defer elsewhere.Close()
	for _, to := range []string{elsewhere.URL, "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/", "http://2852039166/",
		"http://[::ffff:169.254.169.254]/", "http://localhost./", "//169.254.169.254", "%zz://"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			w := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(status)
			})
			_, _, err := w.ask(t, 10*time.Second)
			var failed *bridge.BackendError
			if !errors.As(err, &failed) || failed.Status != status || followed.Load() {
				t.Errorf("%d to %s: %v", status, to, err)
			}
			r, err := w.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0)
			if err != nil || r.ok() || !strings.HasSuffix(r.last(), "redirects are not followed") || followed.Load() {
				t.Errorf("%d to %s: %v %v", status, to, r, err)
			}
		}
	}
}

func requestLargeReply(t *testing.T) {
	for _, callback := range []bool{false, true} {
		var wrote atomic.Int64
		ended := make(chan struct{})
		w := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			defer close(ended)
			for range 100 << 4 {
				n, err := w.Write(make([]byte, 64<<10))
				if wrote.Add(int64(n)); err != nil {
					return
				}
			}
		})
		if callback {
			if r, err := w.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0); err != nil || !r.ok() {
				t.Error(r, err)
			}
		} else if _, _, err := w.ask(t, 10*time.Second); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Error(err)
		}
		if <-ended; wrote.Load() > 50<<20 {
			t.Errorf("the backend got rid of %d bytes", wrote.Load())
		}
	}
}

func requestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	s, _ := sender(t, backend("default", "http://"+address))
	defer stop(s)
	_, _, err = s.Request(t.Context(), "default", "msg_1", nil, 10*time.Second)
	var failed *bridge.BackendError
	if !errors.As(err, &failed) || failed.Status != 0 || failed.Why != "the connection was refused" {
		t.Error(err)
	}
	if _, _, err := s.Request(t.Context(), "other", "msg_1", nil, time.Second); !errors.Is(err, bridge.ErrUnavailable) {
		t.Error(err)
	}
}

func requestPlainServer(t *testing.T) {
	plain := httptest.NewServer(replies(200, "{}"))
	defer plain.Close()
	s, _ := sender(t, backend("default", strings.Replace(plain.URL, "http:", "https:", 1)))
	defer stop(s)
	if r, err := s.byName["default"].endpoint.post(t.Context(), "msg_1", nil, 0); err == nil || r.last() != "its TLS is broken or its certificate not valid" {
		t.Error(r, err)
	}
}

func requestsAreBounded(t *testing.T) {
	var begun sync.WaitGroup
	w := serve(t, func(_ http.ResponseWriter, r *http.Request) { begun.Done(); <-r.Context().Done() })
	results := make(chan error, maxRequests)
	begun.Add(maxRequests)
	one, cancel := context.WithCancel(t.Context())
	for i := range maxRequests {
		ctx := t.Context()
		if i == 0 {
			ctx = one
		}
		go func() {
			_, _, err := w.Request(ctx, "default", "msg_1", nil, 10*time.Second)
			results <- err
		}()
	}
	begun.Wait()
	if _, _, err := w.ask(t, time.Millisecond); !errors.Is(err, bridge.ErrBackendBusy) {
		t.Errorf("one too many: %v", err)
	}
	waiting := &w.byName["default"].waiting
	waiting.Add(maxWaitingRequests)
	if _, _, err := w.ask(t, time.Hour); !errors.Is(err, bridge.ErrBackendBusy) {
		t.Errorf("one too many who waits: %v", err)
	}
	waiting.Add(-maxWaitingRequests)
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that went: %v", err)
	}
	w.end()
	for range maxRequests - 1 {
		if err := <-results; !errors.Is(err, bridge.ErrUnavailable) {
			t.Errorf("the sender stops: %v", err)
		}
	}
	if _, _, err := w.ask(t, time.Second); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("it has stopped: %v", err)
	}
	for result, want := range map[string]float64{"unavailable": maxRequests + 1, "canceled": 1} {
		if n := w.logs.metric(t, "hookbridge_callbacks_requests_total", "default", result); n != want {
			t.Errorf("%v were %s", n, result)
		}
	}
}

func requestsTakeTurns(t *testing.T) {
	full := make(chan struct{})
	var begun sync.WaitGroup
	w := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		begun.Done()
		<-full
		replies(200, "1")(w, nil)
	})
	w.byName["default"].patience = time.Hour
	const all = 2 * maxRequests
	begun.Add(all)
	results := make(chan error, all)
	for range all {
		go func() {
			_, _, err := w.Request(t.Context(), "default", "msg_1", nil, time.Minute)
			results <- err
		}()
	}
	expect.Eventually(t, "half of them wait", func() bool { return w.byName["default"].waiting.Load() == maxRequests })
	close(full)
	for range all {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := w.byName["default"].waiting.Load(); n != 0 {
		t.Errorf("%d wait on", n)
	}
}

func requestConnections(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var proto atomic.Value
		w := serve(t, func(w http.ResponseWriter, r *http.Request) {
			proto.Store(r.Proto)
			replies(200, "{}")(w, r)
		}, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
		for range 10 {
			if _, _, err := w.ask(t, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if _, err := w.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.conns.Load(); n != 1 || (proto.Load() == "HTTP/2.0") != http2 {
			t.Errorf("%d connections for 20 posts with %s", n, proto.Load())
		}
	}
}

// A proxy of the environment would dial addresses that the Sender has not checked.
func requestProxies(t *testing.T) {
	var proxied atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Store(true) }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	there := httptest.NewServer(replies(200, "{}"))
	defer there.Close()
	b := backend("default", strings.Replace(there.URL, "127.0.0.1", "clinic.example", 1))
	e, err := newEndpoint(b, true)
	if err != nil {
		t.Fatal(err)
	}
	e.dialer.Resolver = names(func() string { return "127.0.0.1" })
	r, err := e.post(t.Context(), "msg_1", []byte("{}"), 10)
	e.http.CloseIdleConnections()
	if err != nil || string(r.body) != "{}" || proxied.Load() {
		t.Error(r, err, proxied.Load())
	}
}

// The operators' words about a failure have nothing of the URL, the body or the reply;
// what is logged is looked at when the world ends.
func requestFailure(t *testing.T) {
	w := serve(t, replies(410, canary))
	o := newOutbox()
	o.set(func() {
		c := bridge.Callback{ID: "msg_1", Backend: "default", Type: bridge.CallbackSent, User: canary, At: time.Now(), Body: []byte(`{"data":"` + canary + `"}`)}
		o.waiting = append(o.waiting, &entry{Leased: bridge.Leased{Callback: c, Since: c.At, Key: "k"}})
	})
	w.Start(o)
	for o.counts() != "0 waiting, 0 done, 1 dead" {
		time.Sleep(time.Millisecond)
	}
	if d := o.dead["msg_1"]; d.Last != "status 410" || !w.State("default").Failing || !strings.Contains(w.logs.String(), "a callback was given up") {
		t.Errorf("%s %s", d.Last, w.logs)
	}
}
