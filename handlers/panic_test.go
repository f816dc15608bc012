package handlers

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

func TestPanic(t *testing.T) {
	t.Run("is logged without its value", panicIsLogged)
	t.Run("in a request ends that request alone", panicOfRequest)
	t.Run("outside of the routes ends that request alone", panicOutsideOfRoutes)
	t.Run("on a connection closes it with 1011", panicOfConnection)
}

// A panic's value may be made of a payload, and Fiber's own recovery would print it.
func panicIsLogged(t *testing.T) {
	const canary = "canary-in-a-panic"
	var logs bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logs, nil))
	s := &Server{log: log, o: Options{Bridge: &bridge.Bridge{}, Guard: guard.New(log, prometheus.NewRegistry())},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"code"})}
	app := fiber.New(fiber.Config{ErrorHandler: s.onError})
	app.Use(s.catchPanics)
	app.Post("/broken", func(c *fiber.Ctx) error { panic(canary + string(c.Body())) })
	res, err := app.Test(httptest.NewRequest("POST", "/broken", strings.NewReader(canary)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 500 || strings.Contains(body.String(), canary) || !strings.Contains(body.String(), `"code":"internal"`) {
		t.Errorf("%d %s", res.StatusCode, body.String())
	}
	if text := logs.String(); strings.Contains(text, canary) || !strings.Contains(text, "a panic was caught") || !strings.Contains(text, `"route":"/broken"`) {
		t.Errorf("%s", text)
	}
}

// storeAndLive is a double of both ports in one.
type storeAndLive interface {
	bridge.Store
	bridge.Live
}

// broken is a store that breaks in a chosen place of an export.
type broken struct {
	storeAndLive
	at string
}

func (broken) Listen(bridge.Hub) {}
func (broken) Epoch() string     { return "abcd" }
func (e broken) Revoked(context.Context, string, string, time.Time) (bool, error) {
	if e.at == "Revoked" {
		panic("x")
	}
	return false, nil
}

func (e broken) Presence(_ context.Context, users []string) ([]bridge.Presence, error) {
	if e.at == "Presence" {
		panic("x")
	}
	return []bridge.Presence{{User: users[0]}}, nil
}

func (broken) Groups(context.Context, string) ([]string, error) { return nil, nil }
func (e broken) Read(context.Context, string, string, bridge.Position, int, int) (bridge.Page, error) {
	panic("x") // after the first line went out
}

// A panic may come on the handler's goroutine, and on those that fasthttp or a handler
// starts.
func panicOfRequest(t *testing.T) {
	const secret = "a-jwt-secret-that-is-long-enough-for-hs256"
	token, err := auth.SignToken(secret, auth.Claims{User: "operator", IssuedAt: time.Now(), Expires: time.Now().Add(time.Hour), Rights: []byte(`{"admin":["users"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at, path string
		status   int
		holds    string
	}{
		"before an export's first line": {"Presence", "/v1/users/u/export", 500, `"code":"internal"`},
		"after an export's first line":  {"Read", "/v1/users/u/export", 200, `"code":"internal"`},
		"in a check of a token":         {"Revoked", "/v1/users/u/export", 500, `"code":"internal"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, caught := serverOn(t, broken{at: c.at}, secret)
			req := httptest.NewRequest("GET", c.path, nil)
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := s.app.Test(req, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != c.status || !strings.Contains(string(b), c.holds) {
				t.Errorf("%d %s, %v", res.StatusCode, b, err)
			}
			if caught() != 1 {
				t.Errorf("%v were counted", caught())
			}
		})
	}
}

// serverOn is a server on a store, and how many panics were counted.
func serverOn(t *testing.T, e storeAndLive, secret string) (*Server, func() float64) {
	t.Helper()
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	g := guard.New(log, registry)
	tokens, err := auth.NewTokens(t.Context(), auth.TokenConfig{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	b := bridge.New(bridge.Config{DefaultTTL: time.Hour, MaxBytes: 1 << 16, MaxSessions: 10, SessionsPerUser: 10, PingEvery: time.Minute, DrainTimeout: time.Second,
		Logger: log, Guard: g, Registerer: registry}, e, e, Authenticator(tokens))
	s := New(Options{Bridge: b, Tokens: tokens, Registry: registry, Logger: log, Guard: g, MaxUnauthenticatedPerAddress: 10, MaxBatchBytes: 1 << 20})
	return s, func() (n float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "hookbridge_panics_total" {
				for _, m := range f.GetMetric() {
					n += m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
}

func panicOutsideOfRoutes(t *testing.T) {
	s, caught := serverOn(t, broken{}, "a-jwt-secret-that-is-long-enough-for-hs256")
	var at atomic.Value
	at.Store("")
	check := func(place string) {
		if at.Load() == place {
			panic("x")
		}
	}
	h := &fasthttp.Server{
		Handler:        func(rc *fasthttp.RequestCtx) { check("handler"); rc.SetBodyString("ok") },
		ErrorHandler:   func(rc *fasthttp.RequestCtx, _ error) { check("error"); rc.SetStatusCode(400) },
		HeaderReceived: func(*fasthttp.RequestHeader) fasthttp.RequestConfig { check("header"); return fasthttp.RequestConfig{} },
		Logger:         quiet{},
	}
	s.guardEdge(h)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	for place, want := range map[string]int{"handler": 500, "error": 500, "header": 200, "": 200} {
		at.Store(place)
		request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		if place == "error" {
			request = "nonsense\r\n\r\n"
		}
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil || res.StatusCode != want {
			t.Errorf("%s: %v, %v", place, res, err)
		}
		if err := nc.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := caught(); n != 3 {
		t.Errorf("%v were counted", n)
	}
	if err := h.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// shattered is a connection on which everything breaks.
type shattered struct {
	bridge.Conn
	code    atomic.Int64
	aborted atomic.Bool
}

func (c *shattered) WriteClose(code wire.CloseCode, _ string, _ time.Time) {
	c.code.Store(int64(code))
	panic("x")
}

func (c *shattered) Abort() { c.aborted.Store(true); panic("x") }

func panicOfConnection(t *testing.T) {
	s, caught := serverOn(t, broken{}, "a-jwt-secret-that-is-long-enough-for-hs256")
	c := &shattered{}
	func() {
		defer s.surviveConnection(c)
		panic("x")
	}()
	if c.code.Load() != 1011 || !c.aborted.Load() || caught() != 3 {
		t.Errorf("code %d, aborted %v, %v counted", c.code.Load(), c.aborted.Load(), caught())
	}
}
