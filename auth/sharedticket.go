package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// TicketStore keeps the claims of tickets where all machines can reach them.
type TicketStore interface {
	// Put keeps a value under a key for a time.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Take returns a value to one caller only; ok is false where there is none.
	Take(ctx context.Context, key string) (value []byte, ok bool, err error)
}

// SharedTickets are Tickets that one machine issues and another may redeem. Safe
// for concurrent use.
type SharedTickets struct {
	ttl   time.Duration
	store TicketStore
	now   func() time.Time
}

// NewSharedTickets makes tickets that live for ttl in a store. now is the clock;
// nil is time.Now.
func NewSharedTickets(ttl time.Duration, store TicketStore, now func() time.Time) *SharedTickets {
	if now == nil {
		now = time.Now
	}
	return &SharedTickets{ttl, store, now}
}

// ticketKey is the hash of a ticket, under which a store keeps it, so that nobody can use
// what is stored.
func ticketKey(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Issue makes a ticket for c, which expires after ttl, or with c if that is sooner.
// Errors are the store's.
func (t *SharedTickets) Issue(ctx context.Context, c Claims) (ticket string, expires time.Time, err error) {
	now := t.now()
	ticket, expires = newTicket(c, now, t.ttl)
	if !expires.After(now) {
		return ticket, expires, nil // c has expired: nothing to store
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("make a ticket: %w", err)
	}
	return ticket, expires, t.store.Put(ctx, ticketKey(ticket), b, expires.Sub(now))
}

// Redeem returns the claims of a ticket, once. Errors: ErrTicket, the store's.
func (t *SharedTickets) Redeem(ctx context.Context, ticket string) (c Claims, err error) {
	b, ok, err := t.store.Take(ctx, ticketKey(ticket))
	if err != nil {
		return c, err
	}
	if !ok {
		return c, ErrTicket
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read a ticket: %w", err)
	}
	return c, nil
}
