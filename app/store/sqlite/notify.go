package sqlite

import "hookbridge/app/bridge"

// fanOut tells the Hub of what has been stored and answers the callers, in
// the order of the writer's groups, beside the writer.
func (e *Store) fanOut() {
	defer close(e.fanned)
	for group := range e.writer.fan {
		h := e.hub.Load()
		for _, r := range group {
			if h != nil && r.tell != nil && r.err == nil {
				r.tell(e, *h)
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
func (e *Store) notify(h bridge.Hub, notices ...bridge.Notice) {
	for _, n := range notices {
		e.opts.Guard.Run(whereFanOut, func() { h.Notify(n) })
	}
}
