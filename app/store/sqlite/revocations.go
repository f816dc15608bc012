package sqlite

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Revoke implements bridge.Store.
func (s *Store) Revoke(ctx context.Context, user string, v bridge.Revocation) error {
	return s.ask(ctx, &request{
		alone: true,
		write: func(w *writer) error { return w.revoke(user, v) },
		after: func(w *writer) { w.store.revoked.add(user, v) },
		tell: func(s *Store, h bridge.Hub) {
			s.notify(h, bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: v})
		},
	})
}

// Revoked implements bridge.Store.
func (s *Store) Revoked(_ context.Context, user, tokenID string, issuedAt time.Time) (bool, error) {
	if s.closed.Load() {
		return false, bridge.ErrClosed
	}
	return s.revoked.covers(user, tokenID, issuedAt), nil
}

// revocations has all revocations in memory, because every connect asks for them.
type revocations struct {
	mu sync.RWMutex // guards of
	of map[string][]bridge.Revocation
}

func (v *revocations) add(user string, r bridge.Revocation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil {
		v.of = make(map[string][]bridge.Revocation)
	}
	if slices.Contains(v.of[user], r) {
		return
	}
	v.of[user] = append(v.of[user], r)
}

func (v *revocations) covers(user, tokenID string, issuedAt time.Time) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.ContainsFunc(v.of[user], func(r bridge.Revocation) bool { return r.Covers(tokenID, issuedAt) })
}

// load reads what was revoked in earlier lives.
func (v *revocations) load(c *sqlite3.Conn) error {
	s, _, err := c.Prepare("SELECT user, token_id, issued_before FROM revocations")
	if err != nil {
		return err
	}
	err = with(s).each(func(row *sqlite3.Stmt) bool {
		r := bridge.Revocation{TokenID: row.ColumnText(1)}
		if r.TokenID == "" {
			r.IssuedBefore = time.Unix(0, row.ColumnInt64(2)).UTC()
		}
		v.add(row.ColumnText(0), r)
		return true
	})
	return firstOf(err, s.Close())
}

// revoke writes a revocation, and removes the groups that its tokens have named.
func (w *writer) revoke(user string, v bridge.Revocation) error {
	if err := w.begin(); err != nil {
		return err
	}
	if err := with(w.sql.addRevocation).text(user).text(v.TokenID).int(instantNanos(v.IssuedBefore)).exec(); err != nil {
		return err
	}
	if v.TokenID != "" {
		return with(w.sql.revokeToken).text(user).text(v.TokenID).exec()
	}
	return with(w.sql.revokeBefore).text(user).int(nanos(v.IssuedBefore)).exec()
}
