package handlers

import (
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/handlers/contract/check"
)

func TestRoutes(t *testing.T) {
	t.Run("are all documented in the contract", routesAreDocumented)
}

func TestRequestTimeout(t *testing.T) {
	t.Run("is ten seconds, also for a message of a session", requestTimeoutOfSession)
}

func TestShutdown(t *testing.T) {
	t.Run("before the server serves keeps it from serving", shutdownBeforeServe)
}

func routesAreDocumented(t *testing.T) {
	s := newTestServer()
	k, err := check.New()
	if err != nil {
		t.Fatal(err)
	}
	documented := k.Routes()
	var served []string
	for _, r := range s.app.GetRoutes(true) {
		method, path := r.Method, r.Path
		if method == "HEAD" && !strings.HasSuffix(path, "/presence") {
			continue // Fiber adds one to each GET
		}
		var steps []string
		for _, step := range strings.Split(path, "/") {
			if name, ok := strings.CutPrefix(step, ":"); ok {
				step = "{" + name + "}"
			}
			steps = append(steps, step)
		}
		if path = strings.Join(steps, "/"); path == "/" || strings.Contains(path, ".") && !strings.HasSuffix(path, ".json") {
			continue // the page
		}
		served = append(served, method+" "+path)
	}
	for _, r := range served {
		if !slices.Contains(documented, r) {
			t.Errorf("%s is served and not documented", r)
		}
	}
	for _, r := range documented {
		if !slices.Contains(served, r) {
			t.Errorf("%s is documented and not served", r)
		}
	}
}

func requestTimeoutOfSession(t *testing.T) {
	s := newTestServer()
	if r, m := s.app.Server().ReadTimeout, s.o.MessageTimeout; r != 10*time.Second || m != 10*time.Second {
		t.Errorf("a request has %v, a message %v", r, m)
	}
}

// A program may be told to stop while it starts.
func shutdownBeforeServe(t *testing.T) {
	s := newTestServer()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("it listens")
	}
}

// newTestServer has what every server has, and nothing behind it.
func newTestServer() *Server {
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	return New(Options{Bridge: &bridge.Bridge{}, Logger: log, Registry: registry, Guard: guard.New(log, registry)})
}
