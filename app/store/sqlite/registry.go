package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// settled returns once all that was asked before is in the file.
func (e *Store) settled(ctx context.Context) error {
	return e.do(ctx, func(*writer) error { return nil })
}

// reading runs f on one consistent state of the file, on which all that was
// asked before has had its effect.
func (e *Store) reading(ctx context.Context, f func(r *reader) error) error {
	if err := e.settled(ctx); err != nil {
		return err
	}
	r, err := e.readers.take(ctx)
	if err != nil {
		return err
	}
	defer e.readers.give(r)
	err = r.view(func() error { return f(r) })
	if err != nil && !errors.Is(err, bridge.ErrUnknown) {
		return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return err
}

// Lookup implements bridge.Store.
func (e *Store) Lookup(ctx context.Context, id string) (bridge.Record, error) {
	var rec bridge.Record
	now := e.opts.Now().UnixNano()
	err := e.reading(ctx, func(r *reader) error {
		var err error
		if rec, err = r.record(id, now); err != nil {
			return err
		}
		for i := range rec.Recipients {
			f := &rec.Recipients[i]
			if p, ok := e.acks.of(f.User); ok {
				f.Acked = f.Acked || f.Seq != 0 && p.Mailbox >= f.Seq || rec.Broadcast != 0 && p.Broadcast >= rec.Broadcast
			}
		}
		return nil
	})
	return rec, err
}

// Seen implements bridge.Store. It is written down with what is stored next.
func (e *Store) Seen(ctx context.Context, user, session, id string, at time.Time) error {
	err := e.reading(ctx, func(r *reader) error {
		theirs, err := r.addressed(id, user)
		if err == nil && !theirs {
			return bridge.ErrUnknown
		}
		return err
	})
	if err != nil {
		return err
	}
	return e.enqueue(ctx, &request{write: func(w *writer) error { return w.sight(user, session, id, nanos(at)) }})
}

// DeliveryLogs implements bridge.Store.
func (e *Store) DeliveryLogs(ctx context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	out := make([][]bridge.DeliveryLog, len(users))
	err := e.reading(ctx, func(r *reader) (err error) {
		for i, user := range users {
			if out[i], err = r.deliveryLogs(user); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// deliveryLogs reads those of a user's sessions that have ended, oldest first.
func (r *reader) deliveryLogs(user string) (out []bridge.DeliveryLog, err error) {
	var perr error
	err = with(r.trails).text(user).each(func(row *sqlite3.Stmt) bool {
		var t bridge.DeliveryLog
		if perr = json.Unmarshal(row.ColumnRawBlob(0), &t); perr != nil {
			return false
		}
		out = append(out, t)
		return true
	})
	slices.SortStableFunc(out, func(a, b bridge.DeliveryLog) int { return a.Member.Since.Compare(b.Member.Since) })
	return out, firstOf(err, perr)
}

// Members implements bridge.Store.
func (e *Store) Members(ctx context.Context, group string) ([]string, error) {
	now := e.opts.Now().UnixNano()
	return e.names(ctx, func(r *reader) args { return with(r.members).text(group).int(now) })
}

// Groups implements bridge.Store.
func (e *Store) Groups(ctx context.Context, user string) ([]string, error) {
	now := e.opts.Now().UnixNano()
	return e.names(ctx, func(r *reader) args { return with(r.groups).text(user).int(now) })
}

func (e *Store) names(ctx context.Context, query func(*reader) args) ([]string, error) {
	out := []string{}
	err := e.reading(ctx, func(r *reader) error {
		return query(r).each(func(row *sqlite3.Stmt) bool {
			out = append(out, row.ColumnText(0))
			return true
		})
	})
	return out, err
}

// SetMember implements bridge.Store.
func (e *Store) SetMember(ctx context.Context, group, user string, member bool) error {
	return e.do(ctx, func(w *writer) error { return w.setMember(group, user, member) })
}

// revocations is what is revoked, all of it in memory: it is asked for with
// every connect.
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

// Revoke implements bridge.Store.
func (e *Store) Revoke(ctx context.Context, user string, v bridge.Revocation) error {
	return e.ask(ctx, &request{
		alone: true,
		write: func(w *writer) error { return w.revoke(user, v) },
		after: func(w *writer) { w.engine.revoked.add(user, v) },
		tell: func(s *Store, h bridge.Hub) {
			s.notify(h, bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: v})
		},
	})
}

// Revoked implements bridge.Store.
func (e *Store) Revoked(_ context.Context, user, tokenID string, issuedAt time.Time) (bool, error) {
	if e.closed.Load() {
		return false, bridge.ErrClosed
	}
	return e.revoked.covers(user, tokenID, issuedAt), nil
}
