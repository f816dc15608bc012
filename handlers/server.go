// Package handlers translates between HTTP and the domain. It is the only package that
// imports Fiber. Start at routes.go, the table of all that is served.
package handlers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/app/wire"
	"hookbridge/auth"
)

// Timeouts and sizes of the HTTP layer.
const (
	// requestTimeout is how long a request may take to come, headers and body.
	requestTimeout = 10 * time.Second
	// replyTimeout is how long a client may take to read a reply.
	replyTimeout = 30 * time.Second
	// idleTimeout ends kept-alive connections that nobody uses.
	idleTimeout = 75 * time.Second
	// headerBytes bounds the request line and headers together. Tokens with many
	// rights, cookies and a proxy's headers fit.
	headerBytes = 16 << 10
)

// Tickets exchanges tokens for tickets, which are good for one use and some seconds; see
// auth.Tickets.
type Tickets interface {
	Issue(ctx context.Context, c auth.Claims) (ticket string, expires time.Time, err error)
	Redeem(ctx context.Context, ticket string) (auth.Claims, error)
}

// Options are what New needs. All are required where nothing else is said.
type Options struct {
	Bridge   *bridge.Bridge
	Webhooks *auth.Webhooks
	Tokens   *auth.Tokens
	Tickets  Tickets
	Registry *prometheus.Registry
	Logger   *slog.Logger
	Guard    *guard.Guard // catches panics

	// Origins are the origins that may open sessions, beside the bridge's own. A client
	// that sends no Origin is no browser and is not held to them.
	Origins Origins
	// Proxies are the reverse proxies that are trusted to name the client's address.
	Proxies Proxies
	// PathPrefix begins every path, like "/bridge", where a balancer in front does not
	// remove it; empty for none. Probes and metrics are also served without it.
	PathPrefix string
	// HideMetrics leaves /metrics to a Metrics server.
	HideMetrics bool
	// MaxUnauthenticatedPerAddress bounds the WebSockets of one address that have not shown a
	// token yet.
	MaxUnauthenticatedPerAddress int
	// Senders are the senders of Webhooks' keys, in the same order.
	Senders []SenderKey
	// MaxBatchBytes is the largest body of a batch.
	MaxBatchBytes int
	// ConnectRate is how often, a second, one address may open a session, fetch a
	// ticket or poll; ten times as many at once. 0: no limit.
	ConnectRate float64
	// Now is the clock by which signatures are checked; nil: time.Now.
	Now func() time.Time
	// MaxConnections bounds all connections, sessions among them, and
	// MaxUnauthenticated those without a good token or signature; 0: no limit.
	MaxConnections, MaxUnauthenticated int
	// RequestTimeout is for a request's header and body; 0: 10 s.
	RequestTimeout time.Duration
	// PublishTimeout is how long a webhook may wait for the store, and a second longer
	// at most; 0: 10 s.
	PublishTimeout time.Duration
	// MessageTimeout is for one message of a session, in however many fragments, and a
	// second more for each 4 KiB of it; 0: 10 s.
	MessageTimeout time.Duration
	// Demo, where set, serves the page and its small backend.
	Demo *Demo
}

// Server is the HTTP side of the program.
type Server struct {
	o               Options
	app             *fiber.App
	log             *slog.Logger
	now             func() time.Time
	unauthenticated *unauthenticatedLimit
	senders         []*sender
	publishing      *sharedTimeout // of PublishTimeout

	sockets   *sockets
	addresses *addresses
	bodies    *bodyBudget
	dropped   *prometheus.CounterVec
	listening atomic.Pointer[listener] // set by Serve
	stopped   atomic.Bool              // set by Shutdown
	refused   *prometheus.CounterVec
	webhooks  *prometheus.CounterVec
}

// New builds the server. It does not listen yet; Serve does.
func New(o Options) *Server {
	s := &Server{o: o, log: o.Logger, now: o.Now, unauthenticated: newUnauthenticatedLimit(o.MaxUnauthenticatedPerAddress),
		senders: newSenders(o.Senders), addresses: newAddresses(o.ConnectRate),
		bodies: newBodyBudget(max(o.Bridge.MaxBytes(), o.MaxBatchBytes))}
	s.o.RequestTimeout = cmp.Or(o.RequestTimeout, requestTimeout)
	s.o.PublishTimeout = cmp.Or(o.PublishTimeout, publishTimeout)
	s.publishing = newSharedTimeout(s.o.PublishTimeout)
	s.o.MessageTimeout = cmp.Or(o.MessageTimeout, messageTimeout)
	s.sockets = &sockets{messageTimeout: s.o.MessageTimeout, poller: newPoller(o.Guard)}
	if s.now == nil {
		s.now = time.Now
	}
	s.registerMetrics(o.Registry)

	s.app = fiber.New(fiber.Config{
		AppName:                      "hookbridge",
		DisableStartupMessage:        true,
		ErrorHandler:                 s.onError,
		BodyLimit:                    max(o.Bridge.MaxBytes(), o.MaxBatchBytes),
		StreamRequestBody:            true, // see headerReceived
		ReadBufferSize:               headerBytes,
		ReadTimeout:                  s.o.RequestTimeout,
		WriteTimeout:                 replyTimeout,
		IdleTimeout:                  idleTimeout,
		DisablePreParseMultipartForm: true,
		CaseSensitive:                true,
		StrictRouting:                true,
	})
	h := s.app.Server()
	h.HeaderReceived = s.headerReceived
	h.SecureErrorLogMessage = true
	h.Logger = quiet{}
	h.NoDefaultServerHeader = true
	h.Handler = s.serve(s.prefixed(s.knownMethod(h.Handler)))
	s.guardEdge(h)

	s.routes()
	return s
}

// knownMethod refuses methods that HTTP does not have. Fiber would answer in plain text,
// before its routes and its ErrorHandler.
func (s *Server) knownMethod(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(rc *fasthttp.RequestCtx) {
		if slices.Contains(fiber.DefaultMethods, string(rc.Method())) {
			next(rc)
			return
		}
		c := s.app.AcquireCtx(rc)
		defer s.app.ReleaseCtx(c)
		_ = s.problem(c, wire.NewProblem(wire.CodeMalformed, "the method is not one of HTTP's")) // writing to memory does not fail
	}
}

// Serve answers requests that come to ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	l := newListener(ln, cmp.Or(s.o.MaxConnections, math.MaxInt32), cmp.Or(s.o.MaxUnauthenticated, math.MaxInt32), s.log, s.dropped)
	s.listening.Store(l)
	if s.stopped.Load() {
		return l.Close()
	}
	return s.app.Listener(l)
}

// Shutdown stops listening and waits for the requests under way, until ctx ends. The
// bridge drains its sessions before.
func (s *Server) Shutdown(ctx context.Context) error {
	// fasthttp ends only what it serves already. A Serve that has just begun finds its
	// listener closed, and one that is about to begin finds stopped.
	s.stopped.Store(true)
	var closed error
	if l := s.listening.Load(); l != nil {
		closed = l.Close()
	}
	err := errors.Join(closed, s.app.ShutdownWithContext(ctx))
	s.sockets.poller.close()
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("some requests were cut off when the time to stop was up")
	}
	return err
}

// quiet drops what fasthttp and net/http log by themselves: it repeats raw headers.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// Write drops the lines of a net/http server.
func (quiet) Write(b []byte) (int, error) { return len(b), nil }
