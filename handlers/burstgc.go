package handlers

import (
	"runtime"
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
	now := time.Now()
	if now.Before(g.at) {
		return // the planned one is yet to come
	}
	d := max(burstPause, g.at.Add(burstEvery).Sub(now))
	g.at = now.Add(d)
	after := g.after
	if after == nil {
		after = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	after(d, collect)
}

// collect runs twice because sync.Pool keeps what it holds for one more collection.
func collect() {
	runtime.GC()
	runtime.GC()
}
