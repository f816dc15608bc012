package auth

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"sync"
	"time"
)

// Errors of Tickets.
var (
	// ErrTooManyTickets means that the limit of unused tickets is reached, by number or
	// by memory, of all users or of this one. Some expire within a ticket's lifetime.
	ErrTooManyTickets = errors.New("too many tickets are outstanding; try again shortly")
	// ErrTicket means that a ticket was never issued, was used, or has expired. Callers
	// cannot tell which, on purpose.
	ErrTicket = errors.New("the ticket is unknown, used or expired; get a new one")
)

// maxTicketMemory bounds the memory of all tickets, bytes, because a token's rights may be
// as long as a request's header.
const maxTicketMemory = 16 << 20

// maxTicketMemoryPerUser is one user's share, some 600 tickets with small claims, so that
// one user cannot use up what the others need.
const maxTicketMemoryPerUser = maxTicketMemory / 64

// ticketOverhead is what a ticket costs beside its claims' texts, bytes.
const ticketOverhead = 400

// ticketBytes of randomness make a ticket that cannot be guessed.
const ticketBytes = 32

// Tickets are short-lived, single-use substitutes for a token where a token must not be,
// such as in a URL. They are kept in memory, so that a restart voids them. Safe for
// concurrent use.
type Tickets struct {
	ttl time.Duration
	max int
	now func() time.Time

	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*list.Element
	issued *list.List     // of *ticketEntry, oldest first
	size   int            // bytes of all that are out
	byUser map[string]int // bytes of each user's
}

type ticketEntry struct {
	// hash of the ticket, and not the ticket, so that nobody can use what is in memory.
	hash    [sha256.Size]byte
	claims  Claims
	expires time.Time
	size    int // bytes, as counted
}

// NewTickets makes a store whose tickets live for ttl and which holds max of
// them, 16 MiB, and 256 KiB of one user at most. now is the clock; nil is time.Now.
func NewTickets(ttl time.Duration, max int, now func() time.Time) *Tickets {
	if now == nil {
		now = time.Now
	}
	return &Tickets{ttl: ttl, max: max, now: now,
		byHash: make(map[[sha256.Size]byte]*list.Element), issued: list.New(), byUser: make(map[string]int)}
}

// Issue makes a ticket for c, which expires after the store's ttl, or with c if that is
// sooner. The error is ErrTooManyTickets.
func (t *Tickets) Issue(_ context.Context, c Claims) (ticket string, expires time.Time, err error) {
	c.Rights = bytes.Clone(c.Rights)

	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.expire(now)
	size := ticketOverhead + len(c.User) + len(c.ID) + len(c.Rights) + len(c.Issuer)
	for _, audience := range c.Audiences {
		size += ticketOverhead/10 + len(audience)
	}
	if t.issued.Len() >= t.max || t.size+size > maxTicketMemory || t.byUser[c.User]+size > maxTicketMemoryPerUser {
		return "", time.Time{}, ErrTooManyTickets
	}
	ticket, expires = newTicket(c, now, t.ttl)
	e := &ticketEntry{hash: sha256.Sum256([]byte(ticket)), claims: c, expires: expires, size: size}
	t.size += size
	t.byUser[c.User] += size
	t.byHash[e.hash] = t.issued.PushBack(e)
	return ticket, expires, nil
}

// newTicket makes a ticket that expires after ttl, or with c if that is sooner.
func newTicket(c Claims, now time.Time, ttl time.Duration) (ticket string, expires time.Time) {
	var secret [ticketBytes]byte
	rand.Read(secret[:]) // never fails: the runtime ends the program when there is no randomness
	expires = now.Add(ttl)
	if !c.Expires.IsZero() && c.Expires.Before(expires) {
		expires = c.Expires
	}
	return base64.RawURLEncoding.EncodeToString(secret[:]), expires
}

// Redeem returns the claims of a ticket, once. The error is ErrTicket.
func (t *Tickets) Redeem(_ context.Context, ticket string) (Claims, error) {
	hash := sha256.Sum256([]byte(ticket))
	t.mu.Lock()
	defer t.mu.Unlock()
	el, ok := t.byHash[hash]
	if !ok {
		return Claims{}, ErrTicket
	}
	e := t.remove(el)
	if !t.now().Before(e.expires) {
		return Claims{}, ErrTicket
	}
	return e.claims, nil
}

// expire drops expired tickets from the front. One that expired early, with its token, may
// be behind others; it is dropped within ttl.
func (t *Tickets) expire(now time.Time) {
	for el := t.issued.Front(); el != nil; el = t.issued.Front() {
		if now.Before(el.Value.(*ticketEntry).expires) {
			return
		}
		t.remove(el)
	}
}

func (t *Tickets) remove(el *list.Element) *ticketEntry {
	e := t.issued.Remove(el).(*ticketEntry)
	delete(t.byHash, e.hash)
	t.size -= e.size
	if t.byUser[e.claims.User] -= e.size; t.byUser[e.claims.User] <= 0 {
		delete(t.byUser, e.claims.User)
	}
	return e
}
