package handlers

import (
	"errors"
	"runtime/debug"
	"slices"
	"sync"
)

// maxUnauthenticatedBodies bounds the bytes of all bodies whose signature or token is not checked
// yet, where GOMEMLIMIT sets no lower bound; see newBodyBudget.
const maxUnauthenticatedBodies = 64 << 20

// bodyBudget bounds the memory of the bodies that are being read and not verified yet.
// Beyond it the body that has been read for longest is evicted: an honest sender's is
// here within a moment.
type bodyBudget struct {
	max           int // bytes of all bodies
	maxPerAddress int

	mu        sync.Mutex // guards what follows, and the fields of each bodyUse
	size      int        // bytes in use
	byAddress map[string]int
	reading   []*bodyUse // oldest first
	burst     burstGC
}

// bodyUse is what one body takes of the budget.
type bodyUse struct {
	address string
	conn    *connection // nil: its read cannot be interrupted
	size    int
	evicted error // why it was evicted: errBodiesFull or errAddressBodies
	done    bool  // it takes nothing any more
}

var (
	errBodiesFull    = errors.New("too many bytes of requests are coming at once")
	errAddressBodies = errors.New("too many bytes of requests are coming from this address at once")
)

// newBodyBudget allows a fifth of GOMEMLIMIT, where that is set, and at least two of
// the largest bodies; half of it to one address, which may be a proxy's. A chunked
// body may take one byte more than the largest, which shows that it is too large.
func newBodyBudget(largest int) *bodyBudget {
	limit := max(2*(largest+1), int(min(debug.SetMemoryLimit(-1)/5, maxUnauthenticatedBodies)))
	return &bodyBudget{max: limit, maxPerAddress: limit / 2, burst: burstGC{least: burstBytes}, byAddress: make(map[string]int)}
}

// grow takes n more bytes for a body. Its error says why the body was evicted.
func (b *bodyBudget) grow(u *bodyUse, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u.evicted != nil || u.done {
		return u.evicted
	}
	if u.size == 0 {
		b.reading = append(b.reading, u)
	}
	u.size += n
	b.size += n
	b.burst.grew(b.size)
	b.byAddress[u.address] += n
	for i := 0; i < len(b.reading) && b.byAddress[u.address] > b.maxPerAddress; {
		if old := b.reading[i]; old.address == u.address {
			b.evict(old, errAddressBodies)
		} else {
			i++
		}
	}
	for b.size > b.max {
		b.evict(b.reading[0], errBodiesFull)
	}
	return u.evicted
}

// evict frees what a body takes and makes its reader stop; mu is held.
func (b *bodyBudget) evict(u *bodyUse, why error) {
	u.evicted = why
	b.free(u)
	if u.conn != nil {
		// An error means that the connection is gone, and the read with it.
		_ = u.conn.SetReadDeadline(longAgo)
	}
}

// done frees what a body takes, and returns why it was evicted, if it was.
func (b *bodyBudget) done(u *bodyUse) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u.evicted == nil && u.size > 0 {
		b.free(u)
	}
	u.done = true
	return u.evicted
}

// evicted is why a body was evicted; nil where it was not.
func (b *bodyBudget) evicted(u *bodyUse) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return u.evicted
}

// free takes a body out of the budget; mu is held.
func (b *bodyBudget) free(u *bodyUse) {
	if i := slices.Index(b.reading, u); i >= 0 {
		b.reading = slices.Delete(b.reading, i, i+1)
	}
	b.size -= u.size
	if b.byAddress[u.address] -= u.size; b.byAddress[u.address] <= 0 {
		delete(b.byAddress, u.address)
	}
	u.size = 0
	b.burst.shrank(b.size)
}
