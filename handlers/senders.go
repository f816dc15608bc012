package handlers

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"hookbridge/app/bridge"
)

// SenderKey is whose a webhook key is, and how fast its holder may send.
type SenderKey struct {
	Sender bridge.Sender
	Rate   float64 // events a second; 0: no limit
	Burst  int
}

// maxInFlight is how many requests of one sender are published at a time: as many as
// the store can gather into one commit. The others of a flood wait for the sender's
// own slots, and not in the store's queue in front of other senders.
const maxInFlight = 256

// sender is one sender with its limits, whichever of its keys was used.
type sender struct {
	bridge.Sender
	limit *rate.Limiter // nil: none
	slots chan struct{}
	leave func() // gives one of them back
	// accepted returns the counter of the sender's events that were taken, which is looked
	// up once.
	accepted func() prometheus.Counter
}

// newSenders gives each key, in order, its sender; keys of one name share one.
func newSenders(keys []SenderKey) []*sender {
	byName := make(map[string]*sender)
	out := make([]*sender, len(keys))
	for i, k := range keys {
		if byName[k.Sender.Name] == nil {
			n := &sender{Sender: k.Sender, slots: make(chan struct{}, maxInFlight)}
			n.leave = func() { <-n.slots }
			if k.Rate > 0 {
				n.limit = rate.NewLimiter(rate.Limit(k.Rate), k.Burst)
			}
			byName[k.Sender.Name] = n
		}
		out[i] = byName[k.Sender.Name]
	}
	return out
}

// admit takes events from the sender's rate, or returns how long to wait. A request of
// more events than the burst is admitted when the whole burst is there; the rest is
// owed, so that the sender's next request waits for it.
func (n *sender) admit(events int) (wait time.Duration) {
	if n.limit == nil {
		return 0
	}
	now := time.Now()
	events = max(1, events)
	first := max(1, min(events, n.limit.Burst()))
	r := n.limit.ReserveN(now, first)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait
	}
	for owed := events - first; owed > 0; owed -= first {
		n.limit.ReserveN(now, min(owed, first)) // delays the next request
	}
	return 0
}

// enter waits for one of the sender's slots; leave gives it back.
func (n *sender) enter(ctx context.Context) (leave func(), err error) {
	select {
	case n.slots <- struct{}{}:
		return n.leave, nil
	case <-ctx.Done():
		return nil, bridge.ErrUnavailable
	}
}
