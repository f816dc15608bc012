package sqlite

import "hookbridge/app/bridge"

// fanOut tells the Hub of what has been stored and answers the callers, in
// the order of the writer's groups, beside the writer.
func (s *Store) fanOut() {
	defer close(s.fanned)
	for group := range s.writer.fan {
		h := s.hub.Load()
		for _, r := range group {
			if h != nil && r.tell != nil && r.err == nil {
				r.tell(s, *h)
			}
			if r.done != nil {
				r.done <- struct{}{}
			}
		}
	}
}

// whereFanOut is what panics of the Hub are counted as.
const whereFanOut = "fan-out"

// notify gives the Hub notices. A Hub that panics on one gets the others.
func (s *Store) notify(h bridge.Hub, notices ...bridge.Notice) {
	for _, n := range notices {
		s.opts.Guard.Run(whereFanOut, func() { h.Notify(n) })
	}
}
