package handlers

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// registerMetrics makes the edge's metrics.
func (s *Server) registerMetrics(r *prometheus.Registry) {
	s.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_refused_requests_total", Help: "HTTP requests answered with a problem, by its code.",
	}, []string{"code"})
	s.webhooks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_webhooks_total", Help: "Signed events, by the name of the sender's key and by what they were answered with.",
	}, []string{"sender", "result"})
	for _, n := range s.senders {
		n.accepted = sync.OnceValue(func() prometheus.Counter { return s.webhooks.WithLabelValues(n.Name, statusAccepted) })
	}
	s.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_dropped_connections_total", Help: "Connections ended to make room for others, by what there was too little of.",
	}, []string{"reason"})
	r.MustRegister(s.refused, s.webhooks, s.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hookbridge_connections", Help: "Open connections: sessions, and all others.",
	}, s.o.Guard.Gauge(func() float64 {
		if l := s.listening.Load(); l != nil {
			return float64(l.count())
		}
		return 0
	})), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hookbridge_pending_connections", Help: "WebSocket connections that have not shown a token yet.",
	}, s.o.Guard.Gauge(func() float64 { return float64(s.unauthenticated.total()) })))
}

func (s *Server) metrics() fiber.Handler {
	h := fasthttpadaptor.NewFastHTTPHandler(metricsHandler(s.o.Registry))
	return func(c *fiber.Ctx) error {
		h(c.Context())
		return nil
	}
}

func metricsHandler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Metrics serves /metrics on a listener of its own, so that the names of senders
// are not published with everything else.
type Metrics struct{ server *http.Server }

// NewMetrics serves nothing yet.
func NewMetrics(r *prometheus.Registry) *Metrics {
	mux := http.NewServeMux()
	mux.Handle("GET "+pathMetrics, metricsHandler(r))
	return &Metrics{&http.Server{Handler: mux, ReadTimeout: requestTimeout, WriteTimeout: replyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: log.New(quiet{}, "", 0)}}
}

// Serve answers requests that come to ln until Shutdown.
func (m *Metrics) Serve(ln net.Listener) error {
	if err := m.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops listening and waits for requests under way.
func (m *Metrics) Shutdown(ctx context.Context) error { return m.server.Shutdown(ctx) }
