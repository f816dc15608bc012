package sqlite

import "hookbridge/app/bridge"

// fanOut tells the Listener of what has been stored and answers the callers, in
// the order of the writer's groups, beside the writer.
func (e *Store) fanOut() {
	defer close(e.fanned)
	for group := range e.writer.fan {
		l := e.listener.Load()
		for _, r := range group {
			if l != nil && r.tell != nil && r.err == nil {
				r.tell(e, *l)
			}
			if r.done != nil {
				r.done <- struct{}{}
			}
		}
	}
}

// whereFanOut is what panics of the Listener are counted as.
const whereFanOut = "fan-out"

// notify gives the Listener notices. A Listener that panics on one gets the others.
func (e *Store) notify(l bridge.Listener, notices ...bridge.Notice) {
	for _, n := range notices {
		e.opts.Guard.Run(whereFanOut, func() { l.Notify(n) })
	}
}
