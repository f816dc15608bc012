// Package guard keeps a panic from ending the process. A panic that no goroutine's
// own code recovers ends all of them; so whoever starts a goroutine, or is called
// on somebody else's, runs its work under a Guard and says what of it ends instead:
// one request, one session, one turn of a loop.
package guard

import (
	"log/slog"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// restartPause is how long a loop that panicked waits before it starts again: a
// defect that is met at once again must not take a whole processor.
const restartPause = time.Second

// Guard counts and logs the panics that it catches. The nil Guard catches them
// without a word.
type Guard struct {
	log    *slog.Logger
	panics *prometheus.CounterVec
	pause  atomic.Int64 // of Loop
}

// New makes a Guard that counts in hookbridge_panics_total, by where the panic was
// caught.
func New(log *slog.Logger, r prometheus.Registerer) *Guard {
	g := &Guard{log: log, panics: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hookbridge_panics_total", Help: "Panics that were caught, by what ended or began again because of it.",
	}, []string{"where"})}
	g.pause.Store(int64(restartPause))
	r.MustRegister(g.panics)
	return g
}

// Caught notes a panic; whoever has recovered from it calls it in the same deferred
// function, so that the stack is still there. where is one of a few fixed words;
// attrs are added to the log line. The panic's value is not asked for: it may hold a
// payload or a token.
func (g *Guard) Caught(where string, attrs ...any) {
	if g == nil {
		return
	}
	g.panics.WithLabelValues(where).Inc()
	g.log.Error("a panic was caught", append(attrs, "where", where, "stack", string(debug.Stack()))...)
}

// Run calls f and tells whether it panicked.
func (g *Guard) Run(where string, f func()) (panicked bool) {
	defer func() {
		if recover() != nil {
			panicked = true
			g.Caught(where)
		}
	}()
	f()
	return false
}

// Loop calls f until it returns by itself, or done is closed: after a panic it
// waits a moment and calls f again. A nil done is never closed.
func (g *Guard) Loop(where string, done <-chan struct{}, f func()) {
	for g.Run(where, f) {
		select {
		case <-time.After(g.restartPause()):
		case <-done:
			return
		}
	}
}

func (g *Guard) restartPause() time.Duration {
	if g == nil {
		return restartPause
	}
	return time.Duration(g.pause.Load())
}

// SetPause changes the wait of Loop; for tests.
func (g *Guard) SetPause(d time.Duration) { g.pause.Store(int64(d)) }

// Gauge wraps the function of a gauge: metrics are gathered on goroutines that
// belong to nobody here. A gauge that panics is not a number.
func (g *Guard) Gauge(f func() float64) func() float64 {
	return func() (v float64) {
		if g.Run("metrics", func() { v = f() }) {
			return math.NaN()
		}
		return v
	}
}
