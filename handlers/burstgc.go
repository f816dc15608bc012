package handlers

import (
	"runtime"
	"time"
)

const (
	// burstConnections is how many connections at once that serve requests are a
	// surge, and surgeBytes how many bytes of bodies.
	burstConnections = 256
	burstBytes       = 4 << 20
	// burstPause is how long after a surge its memory is given back.
	burstPause = 5 * time.Second
	// burstEvery is how often at most.
	burstEvery = 20 * time.Second
)

// burstGC sees to it that the memory of many requests at once is given back. Go
// collects garbage when the heap has grown by its share again; after a burstGC
// nothing grows, and its buffers, which lie in fasthttp's pools, would stay for
// minutes. Whoever calls its methods guards it.
type burstGC struct {
	least int                         // what is less than this at once is none
	peak  int                         // since the last surge was over
	at    time.Time                   // of the latest collection that was planned
	after func(time.Duration, func()) // nil: time.AfterFunc
}

func (s *burstGC) grew(n int) { s.peak = max(s.peak, n) }

func (s *burstGC) shrank(n int) {
	if s.peak < s.least || n > s.peak/4 {
		return
	}
	s.peak = n
	now := time.Now()
	if now.Before(s.at) {
		return // that one will do
	}
	d := max(burstPause, s.at.Add(burstEvery).Sub(now))
	s.at = now.Add(d)
	after := s.after
	if after == nil {
		after = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	after(d, collect)
}

// collect empties pools, which keep what they had for one collection more.
func collect() {
	runtime.GC()
	runtime.GC()
}
