package handlers

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/time/rate"

	"hookbridge/app/wire"
)

// maxAddresses bounds how many addresses are remembered.
const maxAddresses = 100_000

// What a call takes of its address's allowance. A session acks at most five times a
// second, so that a second of its acks takes as much as a connect.
const (
	connectWeight = 5
	ackWeight     = 1
)

// addresses limits how often one address may connect, and what else it may do before
// it has authenticated. It remembers an address only while some of its allowance is
// used.
type addresses struct {
	perSecond float64 // weight a second; 0: no limit
	burst     int     // weight

	mu sync.Mutex // guards of
	of map[string]*rate.Limiter
}

// newAddresses allows each address so many connects a second, and ten times as many
// at once.
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

// wait returns how long the address has to wait before a call of this weight, and
// counts nothing.
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

// charge counts a call that was made, also beyond the allowance: the address owes it.
func (a *addresses) charge(address string, weight int, now time.Time) {
	if a.perSecond <= 0 || weight == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limiter(address, now).ReserveN(now, weight)
}

// limiter is the limiter of an address; mu is held.
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

// sweep forgets addresses with their whole allowance. Where none has, it forgets all: a
// table full of attackers must not lock others out.
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

// limitConnects is the middleware of paths that begin a session, or fetch a ticket for
// one.
func (s *Server) limitConnects(c *fiber.Ctx) error {
	if wait := s.addresses.admit(clientNetwork(s.clientAddress(c)), time.Now()); wait > 0 {
		return s.limited(c, "this address connects too often", wait)
	}
	return c.Next()
}

// limitCalls wraps a short call with a token. With a good token it takes weight of its
// address's allowance; with a bad one as much as a connect, because checking the token
// is most of what a call costs.
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
