package handlers

import (
	"runtime"
	"time"
)

const (
	// leastSurge is how many connections at once that serve requests are a surge.
	leastSurge = 256
	// surgeCalm is how long after a surge its memory is given back.
	surgeCalm = 5 * time.Second
)

// surge sees to it that the memory of many requests at once is given back. Go
// collects garbage when the heap has grown by its share again; after a surge
// nothing grows, and its buffers, which lie in fasthttp's pools, would stay for
// minutes. Whoever calls its methods guards it.
type surge struct {
	peak  int                         // since the last surge was over
	after func(time.Duration, func()) // nil: time.AfterFunc
}

func (s *surge) rise(n int) { s.peak = max(s.peak, n) }

func (s *surge) fall(n int) {
	if s.peak < leastSurge || n > s.peak/4 {
		return
	}
	s.peak = n
	after := s.after
	if after == nil {
		after = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	after(surgeCalm, collect)
}

// collect empties pools, which keep what they had for one collection more.
func collect() {
	runtime.GC()
	runtime.GC()
}
