package bridge

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/guard"
)

// metrics are the domain's instruments. No label carries a user, an id or a
// payload.
type metrics struct {
	events        *prometheus.CounterVec
	sent          func() prometheus.Counter // of events, the one for most of them, which is looked up once
	deliveries    prometheus.Counter
	acks          prometheus.Counter
	seen          prometheus.Counter
	gaps          *prometheus.CounterVec
	overflows     prometheus.Counter
	ends          *prometheus.CounterVec
	refusedFrames *prometheus.CounterVec
	refusals      *prometheus.CounterVec
	appendSeconds prometheus.Histogram
	backendSends  *prometheus.CounterVec
	timers        *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, h *hub, g *guard.Guard) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbridge_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbridge_" + name, Help: help}, []string{label})
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		events:        vec("events_total", "Events taken, by the status they were answered with (duplicate for a repeated id).", "status"),
		deliveries:    counter("deliveries_total", "Event frames written to sessions."),
		acks:          counter("acks_total", "Acks taken from apps."),
		seen:          counter("seen_total", "Seen frames taken from apps."),
		gaps:          vec("gaps_total", "Gaps announced to sessions, by reason.", "reason"),
		overflows:     counter("queue_overflows_total", "Sessions closed because their queue was full."),
		ends:          vec("session_ends_total", "Connections ended, by close code.", "code"),
		refusedFrames: vec("refused_frames_total", "Client frames answered with an error, by code.", "code"),
		refusals:      vec("append_failures_total", "Events that the store did not take, by reason.", "reason"),
		backendSends:  vec("backend_sends_total", "Messages of users to backends, by result: queued, duplicate, full, or a problem's code.", "result"),
		appendSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hookbridge_append_seconds", Help: "Time from an event to its being stored and handed out.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
	m.sent = sync.OnceValue(func() prometheus.Counter { return m.events.WithLabelValues(string(StatusSent)) })
	m.timers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_timers_total", Help: "Timers of callbacks that were due, by type, and by result: fired, or void because what they waited for had come.",
	}, []string{"type", "result"})
	r.MustRegister(m.timers, m.appendSeconds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hookbridge_sessions", Help: "Live sessions on this machine.",
	}, g.Gauge(func() float64 { return float64(h.count()) })))
	return m
}

func (m *metrics) published(o Outcome) {
	if o.Status == StatusSent && !o.Duplicate {
		m.sent().Inc()
		return
	}
	status := string(o.Status)
	if o.Duplicate {
		status = "duplicate"
	}
	m.events.WithLabelValues(status).Inc()
}

func (m *metrics) sentToBackend(o Outcome, err error) {
	m.backendSends.WithLabelValues(sendResult(o, err)).Inc()
}

func (m *metrics) timer(kind string, fired bool) {
	result := "void"
	if fired {
		result = "fired"
	}
	m.timers.WithLabelValues(kind, result).Inc()
}

func (m *metrics) refused(err error) {
	reason := "unavailable"
	switch {
	case errors.Is(err, ErrConflict):
		reason = "conflict"
	case errors.Is(err, ErrClosed):
		reason = "closed"
	}
	m.refusals.WithLabelValues(reason).Inc()
}
