package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"hookbridge/app/bridge"
)

// erasedFor is how long it is known when a user was erased: longer than any call
// that had begun before can still be on its way.
const erasedFor = 10 * time.Minute

// erasures is when users were erased, for erasedFor. It is the writer's alone.
type erasures map[string]time.Time

func (e erasures) add(user string, at time.Time) {
	for u, was := range e {
		if at.Sub(was) > erasedFor {
			delete(e, u)
		}
	}
	e[user] = at
}

// after reports whether a session's user was erased after the session began.
func (e erasures) after(m bridge.Member) bool {
	at, ok := e[m.User]
	return ok && !m.Since.IsZero() && m.Since.Before(at)
}

// Exit is for local.Live.
func (e *Store) Exit(ctx context.Context, log bridge.DeliveryLog) error {
	var kept []byte
	if !log.Empty() {
		var err error
		if kept, err = json.Marshal(log); err != nil {
			return fmt.Errorf("keep a delivery log: %w", err)
		}
	}
	m, at := log.Member, nanos(log.Ended)
	return e.enqueue(ctx, &request{write: func(w *writer) error { return w.leave(m, at, kept) }})
}

// leave keeps a session's delivery log, and when its user was there last.
func (w *writer) leave(m bridge.Member, at int64, log []byte) error {
	if w.erasures.after(m) {
		return nil
	}
	rec, err := w.record(m.User)
	if err != nil {
		return err
	}
	w.wasSeen(rec, at)
	if len(log) == 0 || w.scarce {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	if err := with(w.store.addTrail).text(m.User).int(at).text(m.Session).blob(log).exec(); err != nil {
		return err
	}
	return with(w.store.keepTrails).text(m.User).int(bridge.MaxDeliveryLogs).exec()
}

// LastSeen is for local.Live.
func (e *Store) LastSeen(ctx context.Context, users []string) ([]time.Time, error) {
	out := make([]time.Time, len(users))
	err := e.reading(ctx, func(r *reader) error {
		for i, user := range users {
			seen, ok := e.acks.lastSeen(user)
			if !ok {
				var err error
				if seen, err = r.seenAt(user); err != nil {
					return err
				}
			}
			if seen != 0 {
				out[i] = time.Unix(0, seen).UTC()
			}
		}
		return nil
	})
	return out, err
}

// Closed is for local.Live.
func (e *Store) Closed() bool { return e.closed.Load() }
