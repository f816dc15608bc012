package callback

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
)

const (
	// backlogAge is how long a backlog that was read from the store is shown again, so
	// that scrapes do not burden the store.
	backlogAge = 10 * time.Second
	// backlogTimeout bounds how long a scrape waits for the store.
	backlogTimeout = 2 * time.Second
)

// metrics are the instruments of all backends, collected together. No label carries a
// user, an id or a URL.
type metrics struct {
	sender   *Sender
	tries    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	requests *prometheus.CounterVec
	givenUp  *prometheus.CounterVec
	failing  *prometheus.Desc
	waiting  *prometheus.Desc
	bytes    *prometheus.Desc
	oldest   *prometheus.Desc
	dead     *prometheus.Desc

	mu     sync.Mutex
	outbox bridge.Outbox // nil until Start
	known  map[string]bridge.Backlog
	asked  time.Time
}

func newMetrics(s *Sender) *metrics {
	const prefix = "hookbridge_callbacks_"
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, []string{"backend"}, nil)
	}
	return &metrics{
		sender: s,
		tries:  vec("tries_total", "Tries to give a backend a callback, by result: done, gone (410), refused (another 3xx or 4xx), busy (429), failed (5xx), unreachable, or defect of the bridge.", "backend", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "try_seconds", Help: "Time that a try took.", Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 10),
		}, []string{"backend"}),
		requests: vec("requests_total", "Requests to a backend, by result: done, timeout, failed, unavailable (too many at once), or canceled by who asked.", "backend", "result"),
		givenUp:  vec("given_up_total", "Callbacks that were given up.", "backend"),
		failing:  desc("failing", "Whether the last try of this machine failed: 1 from the first that fails until one succeeds."),
		waiting:  desc("waiting", "Callbacks that wait for a backend, on all machines."),
		bytes:    desc("waiting_bytes", "Bytes of the callbacks that wait for a backend."),
		oldest:   desc("oldest_seconds", "Age of the oldest callback that waits for a backend; 0 without one."),
		dead:     desc("dead", "Callbacks that were given up and are kept."),
	}
}

// watch begins to tell of what waits in the outbox.
func (m *metrics) watch(outbox bridge.Outbox) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outbox = outbox
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.tries, m.seconds, m.requests, m.givenUp} {
		c.Describe(to)
	}
	for _, d := range []*prometheus.Desc{m.failing, m.waiting, m.bytes, m.oldest, m.dead} {
		to <- d
	}
}

// Collect implements prometheus.Collector. What the store cannot tell is left out.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.tries, m.seconds, m.requests, m.givenUp} {
		c.Collect(to)
	}
	gauge := func(d *prometheus.Desc, v float64, backend string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, backend)
	}
	for _, b := range m.sender.backends {
		failing := 0.0
		if m.sender.State(b.Name).Failing {
			failing = 1
		}
		gauge(m.failing, failing, b.Name)
	}
	for name, b := range m.backlogs() {
		gauge(m.waiting, float64(b.Waiting), name)
		gauge(m.bytes, float64(b.Bytes), name)
		gauge(m.dead, float64(b.Dead), name)
		age := 0.0
		if !b.Oldest.IsZero() {
			age = max(0, time.Since(b.Oldest).Seconds())
		}
		gauge(m.oldest, age, name)
	}
}

// backlogs asks the store what waits, unless it was asked just now.
func (m *metrics) backlogs() map[string]bridge.Backlog {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.outbox == nil || m.known != nil && time.Since(m.asked) < backlogAge {
		return m.known
	}
	ctx, cancel := context.WithTimeout(m.sender.life, backlogTimeout)
	defer cancel()
	m.known, m.asked = make(map[string]bridge.Backlog), time.Now()
	m.sender.guard.Run("metrics", func() {
		for _, b := range m.sender.backends {
			backlog, err := m.outbox.Backlog(ctx, b.Name)
			if err != nil {
				m.sender.log.Debug("the store cannot tell what waits for a backend", "backend", b.Name, "error", err)
				continue
			}
			m.known[b.Name] = backlog
		}
	})
	return m.known
}

// backendMetrics are the instruments of one backend.
type backendMetrics struct {
	tries    *prometheus.CounterVec
	requests *prometheus.CounterVec
	seconds  prometheus.Observer
	givenUp  prometheus.Counter
}

func (m *metrics) of(backend string) backendMetrics {
	of := prometheus.Labels{"backend": backend}
	return backendMetrics{m.tries.MustCurryWith(of), m.requests.MustCurryWith(of), m.seconds.With(of), m.givenUp.With(of)}
}

func (m backendMetrics) request(result string) { m.requests.WithLabelValues(result).Inc() }

func (m backendMetrics) try(r reply, took time.Duration) {
	m.tries.WithLabelValues(r.result()).Inc()
	m.seconds.Observe(took.Seconds())
}

// result is a reply in the word of the metrics.
func (r reply) result() string {
	switch {
	case r.ours:
		return "defect"
	case r.status == 0:
		return "unreachable"
	case r.ok():
		return "done"
	case r.status == http.StatusGone:
		return "gone"
	case r.status == http.StatusTooManyRequests:
		return "busy"
	case r.status >= 500:
		return "failed"
	}
	return "refused"
}
