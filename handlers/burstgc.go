package handlers

import (
	"runtime"
	"time"
)

const (
	// surgeConnections is how many connections at once that serve requests are a
	// surge, and surgeBytes how many bytes of bodies.
	surgeConnections = 256
	surgeBytes       = 4 << 20
	// surgeCalm is how long after a surge its memory is given back.
	surgeCalm = 5 * time.Second
	// surgeEvery is how often at most.
	surgeEvery = 20 * time.Second
)

// surge sees to it that the memory of many requests at once is given back. Go
// collects garbage when the heap has grown by its share again; after a surge
// nothing grows, and its buffers, which lie in fasthttp's pools, would stay for
// minutes. Whoever calls its methods guards it.
type surge struct {
	least int                         // what is less than this at once is none
	peak  int                         // since the last surge was over
	at    time.Time                   // of the latest collection that was planned
	after func(time.Duration, func()) // nil: time.AfterFunc
}

func (s *surge) rise(n int) { s.peak = max(s.peak, n) }

func (s *surge) fall(n int) {
	if s.peak < s.least || n > s.peak/4 {
		return
	}
	s.peak = n
	now := time.Now()
	if now.Before(s.at) {
		return // that one will do
	}
	d := max(surgeCalm, s.at.Add(surgeEvery).Sub(now))
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
