package redis

import "github.com/prometheus/client_golang/prometheus"

// metrics are the store's metrics.
type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector
	evicted    *prometheus.CounterVec // nil without a registerer
}

// dropped counts a callback that made room for others, or had none.
func (m *metrics) dropped(backend, class string) {
	if m.evicted != nil {
		m.evicted.WithLabelValues(backend, map[string]string{"u": "user", "e": "event", "m": "message"}[class]).Inc()
	}
}

func newMetrics(r prometheus.Registerer, e *Store) (*metrics, error) {
	m := &metrics{registerer: r}
	if r == nil {
		return m, nil
	}
	m.evicted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_callbacks_dropped_total", Help: "Callbacks that made room for others, by backend and kind.",
	}, []string{"backend", "kind"})
	for _, c := range []prometheus.Collector{
		m.evicted,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hookbridge_redis_listening", Help: "1 while this machine hears the others.",
		}, e.opts.Guard.Gauge(func() float64 {
			if e.listening.Load() {
				return 1
			}
			return 0
		})),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hookbridge_redis_sessions_elsewhere", Help: "Live sessions on other machines, as they said last.",
		}, e.opts.Guard.Gauge(func() float64 { return float64(e.leases.sessionsElsewhere(e.self)) })),
	} {
		if err := r.Register(c); err != nil {
			m.close()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

// close takes the metrics back, so that a store can be opened again.
func (m *metrics) close() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}
