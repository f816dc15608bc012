package handlers

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

const pathMetrics = "/metrics"

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
