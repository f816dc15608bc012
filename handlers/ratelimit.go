package handlers

import (
	"context"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/time/rate"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// SenderKey is what is known of whoever holds a webhook key.
type SenderKey struct {
	Sender bridge.Sender
	Rate   float64 // events a second; 0: no limit
	Burst  int
}

// maxInFlight is how many requests of one sender are worked on at a time: all
// that the store can gather into one commit. The others of a flood wait here,
// in a queue of the sender's own, and not in front of everybody else's.
const maxInFlight = 256

// sender is one name among the keys, with its limits.
type sender struct {
	bridge.Sender
	limit *rate.Limiter // nil: none
	slots chan struct{}
}

// newSenders gives each key, in order, its sender; keys of one name share one.
func newSenders(keys []SenderKey) []*sender {
	byName := make(map[string]*sender)
	out := make([]*sender, len(keys))
	for i, k := range keys {
		if byName[k.Sender.Name] == nil {
			n := &sender{Sender: k.Sender, slots: make(chan struct{}, maxInFlight)}
			if k.Rate > 0 {
				n.limit = rate.NewLimiter(rate.Limit(k.Rate), k.Burst)
			}
			byName[k.Sender.Name] = n
		}
		out[i] = byName[k.Sender.Name]
	}
	return out
}

// admit takes so many events from the sender's rate; where that is used up it
// returns how long to wait. A request of more events than the burst allows is
// admitted when the whole burst is there, and counts in full all the same: what it
// takes beyond is owed, and the sender waits until it has come back.
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
		n.limit.ReserveN(now, min(owed, first)) // its delay is the sender's next wait
	}
	return 0
}

// enter waits for one of the sender's slots; the returned function gives it back.
func (n *sender) enter(ctx context.Context) (leave func(), err error) {
	select {
	case n.slots <- struct{}{}:
		return func() { <-n.slots }, nil
	case <-ctx.Done():
		return nil, bridge.ErrUnavailable
	}
}

// maxAddresses bounds the memory of addresses.
const maxAddresses = 100_000

// What a call weighs in its address's rate. A session acks five times a second at
// most, so that a second of one session's acks weighs as much as a connect.
const (
	connectWeight = 5
	ackWeight     = 1
)

// addresses limits how often one address may connect, and what else it may do
// before it has proven anything. It remembers an address only while its allowance
// is not whole.
type addresses struct {
	perSecond float64 // weight a second; 0: no limit
	burst     int     // weight

	mu sync.Mutex // guards of
	of map[string]*rate.Limiter
}

// newAddresses allows so many connects a second, and ten times as many at once.
func newAddresses(connects float64) *addresses {
	return &addresses{perSecond: connectWeight * connects, burst: connectWeight * int(math.Ceil(10*connects)), of: make(map[string]*rate.Limiter)}
}

// admit counts one connect, or returns how long to wait.
func (a *addresses) admit(address string, now time.Time) (wait time.Duration) {
	if a.perSecond <= 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.limiter(address, now).ReserveN(now, connectWeight)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// wait returns how long the address is to wait before it may do something of
// this weight, and counts nothing.
func (a *addresses) wait(address string, weight int, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.of[address]
	if l == nil {
		return 0
	}
	missing := float64(weight) - l.TokensAt(now)
	return time.Duration(max(0, missing/a.perSecond) * float64(time.Second))
}

// charge counts what was done, whether or not the address may do more.
func (a *addresses) charge(address string, weight int, now time.Time) {
	if a.perSecond <= 0 || weight == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limiter(address, now).ReserveN(now, weight) // what is beyond its allowance, it owes
}

// limiter is an address's; mu is held.
func (a *addresses) limiter(address string, now time.Time) *rate.Limiter {
	l := a.of[address]
	if l == nil {
		if len(a.of) >= maxAddresses {
			a.sweep(now)
		}
		l = rate.NewLimiter(rate.Limit(a.perSecond), a.burst)
		a.of[address] = l
	}
	return l
}

// sweep forgets those who have their whole allowance; where nobody has, all are
// forgotten: a table that is full of attackers must not lock others out.
func (a *addresses) sweep(now time.Time) {
	for address, l := range a.of {
		if l.TokensAt(now) >= float64(a.burst) {
			delete(a.of, address)
		}
	}
	if len(a.of) >= maxAddresses {
		clear(a.of)
	}
}

// limitConnects is the middleware of every path that begins something that lasts.
func (s *Server) limitConnects(c *fiber.Ctx) error {
	if wait := s.addresses.admit(clientNetwork(s.clientAddress(c)), time.Now()); wait > 0 {
		return s.limited(c, "this address connects too often", wait)
	}
	return c.Next()
}

// limitCalls is around calls that show a token and last a moment. One whose token is
// good limitCalls as given in its address's rate, one whose token is not as much as a
// connect: telling them apart is most of what they cost.
func (s *Server) limitCalls(weight int, next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		address := clientNetwork(s.clientAddress(c))
		if wait := s.addresses.wait(address, max(1, weight), time.Now()); wait > 0 {
			return s.limited(c, "this address calls too often", wait)
		}
		err := next(c)
		if authenticated(c) {
			s.addresses.charge(address, weight, time.Now())
		} else {
			s.addresses.charge(address, connectWeight, time.Now())
		}
		return err
	}
}

// limited is the answer 429, which says when to come back.
func (s *Server) limited(c *fiber.Ctx, why string, wait time.Duration) error {
	seconds := max(1, int(math.Ceil(wait.Seconds())))
	c.Set(fiber.HeaderRetryAfter, strconv.Itoa(seconds))
	return wire.NewProblem(wire.CodeRateLimited, why+"; try again in "+strconv.Itoa(seconds)+" s")
}
