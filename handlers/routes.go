// Package handlers is the edge: it translates between HTTP and the domain, and
// is the only package that knows Fiber.
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
	"hookbridge/handlers/contract"
)

// Timeouts and sizes of the HTTP layer.
const (
	// requestTimeout is for a request's header and body, unless Options says otherwise.
	requestTimeout = 10 * time.Second
	// replyTimeout is for a slow reader, from the first byte of a reply.
	replyTimeout = 30 * time.Second
	// idleTimeout ends kept-alive connections that nobody uses.
	idleTimeout = 75 * time.Second
	// headerBytes bounds the request line and headers: tokens with many
	// rights, cookies and a proxy's own headers fit.
	headerBytes = 16 << 10
)

// Tickets stand in for tokens for a moment; see auth.Tickets.
type Tickets interface {
	Issue(ctx context.Context, c auth.Claims) (ticket string, expires time.Time, err error)
	Redeem(ctx context.Context, ticket string) (auth.Claims, error)
}

// Options are what main hands to the edge. All but Demo are required.
type Options struct {
	Bridge   *bridge.Bridge
	Webhooks *auth.Webhooks
	Tokens   *auth.Tokens
	Tickets  Tickets
	Registry *prometheus.Registry
	Logger   *slog.Logger
	Guard    *guard.Guard // catches panics

	// Origins are the origins of browsers and apps that may open sessions. A
	// client that sends no Origin is no browser.
	Origins Origins
	// Proxies are those in front that are believed when they name the client.
	Proxies Proxies
	// PathPrefix is what every path begins with where a balancer in front does
	// not take it off, like "/bridge"; empty for none. Probes and metrics are
	// served without it, too.
	PathPrefix string
	// HideMetrics leaves /metrics to ServeMetrics.
	HideMetrics bool
	// MaxPendingPerAddress bounds connections of one address that have not
	// proven who they are.
	MaxPendingPerAddress int
	// Senders tells for each of Webhooks' keys, in order, whose it is.
	Senders []SenderKey
	// MaxBatchBytes is the largest batch.
	MaxBatchBytes int
	// ConnectRate is how often a second one address may open a session, fetch
	// a ticket or poll; ten times as many at once. 0: no limit.
	ConnectRate float64
	// Now is the clock that signatures are judged by; nil: time.Now.
	Now func() time.Time
	// MaxConnections bounds all connections, sessions among them, and
	// MaxUnauthenticated those that have proven nothing; 0: no limit.
	MaxConnections, MaxUnauthenticated int
	// RequestTimeout is for a request's header and body; 0: 10 s.
	RequestTimeout time.Duration
	// MessageTimeout is for one message of a session, in however many fragments, and a
	// second more for each 4 KiB of it; 0: 10 s.
	MessageTimeout time.Duration
	// Demo, where set, serves the page and its small backend.
	Demo *Demo
}

// Server is the HTTP side of the program.
type Server struct {
	o       Options
	app     *fiber.App
	log     *slog.Logger
	now     func() time.Time
	pending *pending
	senders []*sender

	addresses *addresses
	bodies    *bodyBudget
	dropped   *prometheus.CounterVec
	listening atomic.Pointer[listener] // set by Serve
	stopped   atomic.Bool              // set by Shutdown
	refused   *prometheus.CounterVec
	webhooks  *prometheus.CounterVec
}

// New builds the server; it listens to nothing yet.
func New(o Options) *Server {
	s := &Server{o: o, log: o.Logger, now: o.Now, pending: newPending(o.MaxPendingPerAddress),
		senders: newSenders(o.Senders), addresses: newAddresses(o.ConnectRate),
		bodies: newBodyBudget(max(o.Bridge.MaxBytes(), o.MaxBatchBytes))}
	s.o.RequestTimeout = cmp.Or(o.RequestTimeout, requestTimeout)
	s.o.MessageTimeout = cmp.Or(o.MessageTimeout, messageTimeout)
	if s.now == nil {
		s.now = time.Now
	}
	s.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_refused_requests_total", Help: "HTTP requests answered with a problem, by its code.",
	}, []string{"code"})
	s.webhooks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_webhooks_total", Help: "Signed events, by the name of the sender's key and by what they were answered with.",
	}, []string{"sender", "result"})
	s.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_dropped_connections_total", Help: "Connections ended to make room for others, by what there was too little of.",
	}, []string{"reason"})
	o.Registry.MustRegister(s.refused, s.webhooks, s.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hookbridge_connections", Help: "Open connections: sessions, and all others.",
	}, o.Guard.Gauge(func() float64 {
		if l := s.listening.Load(); l != nil {
			return float64(l.count())
		}
		return 0
	})), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hookbridge_pending_connections", Help: "WebSocket connections that have not shown a token yet.",
	}, o.Guard.Gauge(func() float64 { return float64(s.pending.total()) })))

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
	// A session's connection outlives the handler that upgraded it.
	h.KeepHijackedConns = true
	h.HeaderReceived = s.headerReceived
	h.SecureErrorLogMessage = true
	h.Logger = quiet{}
	h.NoDefaultServerHeader = true
	h.Handler = s.serve(s.prefixed(s.knownMethod(h.Handler)))
	s.guardEdge(h)

	s.routes()
	return s
}

// routes is the table of everything that is served.
func (s *Server) routes() {
	r := s.app
	r.Use(s.catchPanics)

	r.Post(pathEvents, s.webhook)
	r.Post(pathBatch, s.webhook)
	r.Get("/ws", s.limitConnects, s.socket, s.upgrade())

	r.Use("/v1", s.cors, s.noTokenInURL)
	r.Post("/v1/tickets", s.limitConnects, s.ticket)
	r.Get(pathStream, s.limitConnects, s.stream)
	r.Get("/v1/poll", s.limitConnects, s.poll)
	r.Post("/v1/acks", s.limitCalls(ackWeight, s.acks))
	s.operatorRoutes(r)

	r.Get("/openapi.json", s.contract(contract.OpenAPI))
	r.Get("/asyncapi.json", s.contract(contract.AsyncAPI))
	r.Get("/livez", s.livez)
	r.Get("/readyz", s.readyz)
	if !s.o.HideMetrics {
		r.Get(pathMetrics, s.metrics())
	}

	s.assetRoutes(r)
	if s.o.Demo != nil {
		r.Post("/demo/tokens", s.demoToken)
		r.Post("/demo/patients", s.demoPatient)
		r.Post("/demo/announcements", s.demoAnnouncement)
	}
}

// knownMethod answers what Fiber would answer in plain text, before its routes
// and its ErrorHandler.
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

// Serve answers requests that come to ln until Shutdown, which may come first.
func (s *Server) Serve(ln net.Listener) error {
	l := newListener(ln, cmp.Or(s.o.MaxConnections, math.MaxInt32), cmp.Or(s.o.MaxUnauthenticated, math.MaxInt32), s.log, s.dropped)
	s.listening.Store(l)
	if s.stopped.Load() {
		return l.Close()
	}
	return s.app.Listener(l)
}

// Shutdown stops listening and waits for requests under way. Sessions are the
// bridge's to drain, before this.
func (s *Server) Shutdown(ctx context.Context) error {
	// fasthttp ends only what it serves already. A Serve that has just begun finds its
	// listener closed, and one that is about to begin finds stopped.
	s.stopped.Store(true)
	var closed error
	if l := s.listening.Load(); l != nil {
		closed = l.Close()
	}
	err := errors.Join(closed, s.app.ShutdownWithContext(ctx))
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("some requests were cut off when the time to stop was up")
	}
	return err
}

// contract serves a description of ours; any page may read it.
func (s *Server) contract(doc []byte) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
		return c.Send(doc)
	}
}

func (s *Server) livez(c *fiber.Ctx) error { return c.SendString("ok\n") }

// readyTimeout keeps a load balancer's question short.
const readyTimeout = 2 * time.Second

func (s *Server) readyz(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := s.o.Bridge.Check(ctx); err != nil {
		return err
	}
	return c.SendString("ok\n")
}

// quiet drops the log lines of the servers' own, which repeat raw headers.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// Write is net/http's way to the same.
func (quiet) Write(b []byte) (int, error) { return len(b), nil }
