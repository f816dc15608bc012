package bridge

import (
	"context"
	"log/slog"
	"time"

	"hookbridge/app/wire"
)

// Revocation says which tokens of a user are no longer good; exactly one member
// is set.
type Revocation struct {
	TokenID      string    `json:"tokenId,omitempty"` // the one with this jti
	IssuedBefore time.Time `json:"issuedBefore"`      // all issued before; those without iat too
}

// Covers reports whether the revocation ends a token.
func (r Revocation) Covers(tokenID string, issuedAt time.Time) bool {
	if r.TokenID != "" {
		return tokenID == r.TokenID
	}
	return issuedAt.Before(r.IssuedBefore)
}

// Revoke ends a user's tokens, and the live sessions that use them: the store notes the
// revocation and notifies the Hub of every machine (NoticeRevoked), and each session
// whose token it covers ends itself (Session.revoked).
func (o Operator) Revoke(ctx context.Context, user string, r Revocation) (err error) {
	defer func() {
		o.note("revoke", err, slog.String("of", user), slog.String("revoked_token_id", r.TokenID), slog.Time("issued_before", r.IssuedBefore))
	}()
	if err := checkName("user", user); err != nil {
		return err
	}
	return o.b.store.Revoke(ctx, user, r)
}

// Admit refuses an identity whose token was revoked, for those who open no session:
// one that joins is refused there. Errors: ErrRevoked, and the store's.
func (b *Bridge) Admit(ctx context.Context, id Identity) error {
	revoked, err := b.store.Revoked(ctx, id.User, id.TokenID, id.Issued)
	if err == nil && revoked {
		return ErrRevoked
	}
	return err
}

// revoked ends the session where a revocation covers its token. While a newer
// token is on its way, the older one decides only if the newer does not come in.
func (s *Session) revoked(r Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	covers := func(id *Identity) bool { return r.Covers(id.TokenID, id.Issued) }
	switch {
	case s.next == nil && covers(&s.identity), s.next != nil && covers(s.next):
		s.end(wire.CloseForbidden, ErrRevoked.Error(), false)
	case s.next != nil && covers(&s.identity):
		s.suspect = true
	}
}
