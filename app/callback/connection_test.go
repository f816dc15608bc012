package callback

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestConnection(t *testing.T) {
	t.Run("in the making counts, also when its request has timed out", connectionsAreBounded)
	t.Run("that the backend has closed costs no request, and none is sent twice", connectionClosed)
	t.Run("of HTTP/2 with one stream gets each callback once", connectionOfOneStream)
	t.Run("of HTTP/2 that resets a stream is not sent a request again", connectionResets)
	t.Run("of HTTP/2 that the backend leaves costs no callback, and no request is sent twice", connectionLeft)
}

// accepting gives a listener's connections to take, one after the other, until the listener
// is closed; then it closes ended.
func accepting(ln net.Listener, take func(net.Conn)) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			take(conn)
		}
	}()
	return done
}

// A user who asks with the shortest of timeouts leaves a connection in the making behind
// with each request, where a backend is slow to take them.
func connectionsAreBounded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	expect.NoError(t, err)
	var accepted []net.Conn
	ended := accepting(ln, func(conn net.Conn) { accepted = append(accepted, conn) })
	s, _ := sender(t, backend("default", "https://"+ln.Addr().String()))
	for range 3 {
		var asked sync.WaitGroup
		for range maxRequests {
			asked.Go(func() {
				if _, _, err := s.Request(t.Context(), "default", "msg_1", nil, time.Millisecond); !errors.Is(err, bridge.ErrBackendTimeout) {
					t.Error(err)
				}
			})
		}
		asked.Wait()
	}
	stop(s)
	ln.Close()
	if <-ended; len(accepted) == 0 || len(accepted) > MaxConnections {
		t.Errorf("%d connections", len(accepted))
	}
	for _, conn := range accepted {
		conn.Close()
	}
}

// noticed tells when the sender has closed a connection.
type noticed struct {
	net.Conn
	closed *atomic.Int64
}

func (c noticed) Close() error {
	c.closed.Add(1)
	return c.Conn.Close()
}

// A backend closes its connection after it has answered: before the next request, or when
// that has come on it.
func connectionClosed(t *testing.T) {
	for name, late := range map[string]bool{"before the next request": false, "instead of an answer": true} {
		var posts, closed atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			posts.Add(1)
			_, _ = io.CopyN(io.Discard, buffered, r.ContentLength) // it is the sender that is tested
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			if !late {
				return
			}
			if r, err := http.ReadRequest(buffered.Reader); err == nil {
				posts.Add(1)
				_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength)
			}
		}))
		s, _ := sender(t, backend("default", server.URL))
		dial := s.byName["default"].endpoint.dialer.DialContext
		s.byName["default"].endpoint.http.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return noticed{conn, &closed}, err
		}
		for i := range int64(10) {
			status, _, err := s.Request(t.Context(), "default", "msg_1", []byte("{}"), 10*time.Second)
			var failed *bridge.BackendError
			switch {
			case late && i%2 == 1:
				if !errors.As(err, &failed) || failed.Why != "the connection failed" {
					t.Errorf("%s: %d %v", name, status, err)
				}
			case err != nil || status != 200:
				t.Errorf("%s: %d %v", name, status, err)
			}
			if !late {
				expect.Eventually(t, "that the sender has seen it", func() bool { return closed.Load() == i+1 })
			}
		}
		if posts.Load() != 10 {
			t.Errorf("%s: of 10 requests %d came", name, posts.Load())
		}
		stop(s)
		server.Close()
	}
}

// A backend of HTTP/2 may take one request at a time on a connection, and refuse the others
// until the sender has heard of that.
func connectionOfOneStream(t *testing.T) {
	var posts atomic.Int64
	w := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		replies(200, "{}")(w, nil)
	}, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1}
	})
	var sent sync.WaitGroup
	for range maxInFlight {
		sent.Go(func() {
			for range 5 { // one that is refused too often is tried again, as all that fail
				if r, err := w.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0); err == nil && r.ok() {
					return
				}
			}
			t.Error("a callback was refused each time")
		})
	}
	sent.Wait()
	if posts.Load() != maxInFlight {
		t.Errorf("%d callbacks came", posts.Load())
	}
}

// framed is a backend of HTTP/2 that answers each POST with the frames of answer, which is
// told how many came before it on any connection. It counts them.
func framed(t *testing.T, answer func(f *http2.Framer, stream uint32, before int64)) (w *world, posts *atomic.Int64) {
	posts = new(atomic.Int64)
	w = serve(t, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
			defer conn.Close()
			if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
				return
			}
			f := http2.NewFramer(conn, conn)
			err := f.WriteSettings()
			for err == nil {
				var frame http2.Frame
				if frame, err = f.ReadFrame(); err != nil {
					return
				}
				switch frame := frame.(type) {
				case *http2.SettingsFrame:
					if !frame.IsAck() {
						err = f.WriteSettingsAck()
					}
				case *http2.DataFrame:
					if frame.StreamEnded() {
						answer(f, frame.StreamID, posts.Add(1)-1)
					}
				}
			}
		}}
	})
	return w, posts
}

// accept answers a POST of HTTP/2 with {}.
func accept(t *testing.T, f *http2.Framer, stream uint32) {
	var block headerBlock
	e := hpack.NewEncoder(&block)
	expect.NoError(t, e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"}))
	expect.NoError(t, e.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(2)}))
	expect.NoError(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true}))
	expect.NoError(t, f.WriteData(stream, true, []byte("{}")))
}

type headerBlock []byte

func (b *headerBlock) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func connectionResets(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeProtocol, http2.ErrCodeRefusedStream, http2.ErrCodeInternal, http2.ErrCodeCancel, http2.ErrCodeHTTP11Required} {
		w, posts := framed(t, func(f *http2.Framer, stream uint32, _ int64) { expect.NoError(t, f.WriteRSTStream(stream, code)) })
		_, _, err := w.ask(t, 10*time.Second)
		var failed *bridge.BackendError
		if !errors.As(err, &failed) || failed.Status != 0 || failed.Why != "the connection failed" || posts.Load() != 1 {
			t.Errorf("%s: %v, and %d requests came", code, err, posts.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		r, err := w.byName["default"].endpoint.post(ctx, "msg_1", []byte("{}"), 0)
		if cancel(); err == nil || r.last() != "the connection failed" && r.last() != "it took too long" || posts.Load() > 2+maxRepeats {
			t.Errorf("%s: %q %v, and the callback came %d times", code, r.last(), err, posts.Load()-1)
		}
	}
}

// A backend that closes a connection in order says which streams it has not looked at.
func connectionLeft(t *testing.T) {
	var lost atomic.Int64
	w, posts := framed(t, func(f *http2.Framer, stream uint32, before int64) {
		if before%2 == 0 {
			accept(t, f, stream)
			return
		}
		lost.Add(1)
		_ = f.WriteGoAway(stream-2, http2.ErrCodeNo, nil)
	})
	for i := range 4 {
		if r, err := w.byName["default"].endpoint.post(t.Context(), fmt.Sprintf("msg_%d", i), []byte("{}"), 0); err != nil || !r.ok() {
			t.Errorf("callback %d: %v %v", i, r, err)
		}
	}
	if posts.Load() != 4+lost.Load() || lost.Load() == 0 {
		t.Errorf("%d came, %d were not looked at", posts.Load(), lost.Load())
	}
	came, answered := posts.Load(), 0
	for range 4 {
		if _, _, err := w.ask(t, 10*time.Second); err == nil {
			answered++
		}
	}
	if sent := posts.Load() - came; sent != 4 || answered == 4 {
		t.Errorf("of 4 requests %d were answered, and %d came", answered, sent)
	}
	w, posts = framed(t, func(f *http2.Framer, _ uint32, _ int64) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) })
	r, err := w.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0)
	if err == nil || r.last() != "the connection failed" || posts.Load() > 1+maxRepeats {
		t.Errorf("a backend that leaves each time: %v %v, and the callback came %d times", r, err, posts.Load())
	}
}
