package handlers

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// burstConnections is how many connections must serve requests at once to count
	// as a burst, and burstBytes how many bytes of bodies.
	burstConnections = 256
	burstBytes       = 4 << 20
	// burstPause is how long after a burst its memory is given back.
	burstPause = 5 * time.Second
	// burstEvery is the least time between two collections.
	burstEvery = 20 * time.Second
	// arrivalPause is how long after a burst of new sessions no more have come when the
	// memory of their handshakes is given back.
	arrivalPause = 2 * time.Second
)

// burstGC collects garbage after a burst of requests. Go collects by itself only when
// the heap has grown by its share again; after a burst nothing grows, and its buffers
// would stay in fasthttp's pools for minutes. The caller's lock guards it.
type burstGC struct {
	least int                         // a smaller peak is no burst
	peak  int                         // the most since the last burst ended
	at    time.Time                   // when the latest planned collection is due
	after func(time.Duration, func()) // nil: time.AfterFunc
}

// grew notes that there are n connections, or bytes, now.
func (g *burstGC) grew(n int) { g.peak = max(g.peak, n) }

// shrank notes that only n are left, and plans a collection where a burst is over.
func (g *burstGC) shrank(n int) {
	if g.peak < g.least || n > g.peak/4 {
		return
	}
	g.peak = n
	g.plan(burstPause)
}

// plan plans a collection so long from now, unless one is planned.
func (g *burstGC) plan(pause time.Duration) {
	now := time.Now()
	if now.Before(g.at) {
		return // the planned one is yet to come
	}
	d := max(pause, g.at.Add(burstEvery).Sub(now))
	g.at = now.Add(d)
	after := g.after
	if after == nil {
		after = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	after(d, collect)
}

// collect runs two collections, because sync.Pool keeps what it holds for one more, and
// gives what is free to the system.
func collect() {
	runtime.GC()
	debug.FreeOSMemory()
}

// arrivals notices the end of a burst of new sessions. Many come at once when a machine
// starts or a network is back; then they rest, and what their handshakes took would stay
// for long. The caller's lock guards it.
type arrivals struct {
	mu      sync.Locker // the caller's, which check takes
	gc      *burstGC
	n       int       // since the last burst ended
	last    time.Time // when the latest came
	planned bool      // check is to run
	after   func(time.Duration, func())
}

// came notes a new session.
func (a *arrivals) came() {
	a.n++
	a.last = time.Now()
	if a.n >= burstConnections && !a.planned {
		a.planned = true
		a.after(arrivalPause, a.check)
	}
}

// check plans a collection once no session has come for a while.
func (a *arrivals) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if left := arrivalPause - time.Since(a.last); left > 0 {
		a.after(left, a.check)
		return
	}
	a.n, a.planned = 0, false
	a.gc.plan(0)
}
