package sqlite

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/guard"
	"hookbridge/app/store/sqlite/walfile"
)

// metrics are the few numbers that tell how the store fares.
type metrics struct {
	commits prometheus.Histogram
	groups  prometheus.Histogram
	pruned  prometheus.Counter
	dropped *prometheus.CounterVec
	wal     prometheus.GaugeFunc
	depth   prometheus.GaugeFunc

	registerer prometheus.Registerer
	registered []prometheus.Collector
}

func newMetrics(r prometheus.Registerer, v *walfile.VFS, q *queue, g *guard.Guard) (*metrics, error) {
	m := &metrics{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hookbridge_store_commit_seconds", Help: "Time from the start of a transaction to the end of its fsync.",
			Buckets: prometheus.ExponentialBuckets(0.000_25, 2, 14),
		}),
		groups: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hookbridge_store_group_size", Help: "Requests that shared one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		pruned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hookbridge_store_expired_total", Help: "Messages taken out because their time had run out.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hookbridge_callbacks_dropped_total", Help: "Callbacks that made room for others, by backend and kind.",
		}, []string{"backend", "kind"}),
		wal: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hookbridge_store_wal_bytes", Help: "Length of the write-ahead log in use.",
		}, g.Gauge(func() float64 { return float64(v.LogEnd()) })),
		depth: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hookbridge_store_queue_requests", Help: "Requests waiting for the writer.",
		}, g.Gauge(func() float64 { return float64(q.depth()) })),
		registerer: r,
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.commits, m.groups, m.pruned, m.dropped, m.wal, m.depth} {
		if err := r.Register(c); err != nil {
			m.close()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) commit(d time.Duration, group int) {
	m.commits.Observe(d.Seconds())
	if group > 0 { // not upkeep alone
		m.groups.Observe(float64(group))
	}
}

// close takes the metrics back, so that a store can be opened again.
func (m *metrics) close() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}
