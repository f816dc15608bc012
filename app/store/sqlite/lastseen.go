package sqlite

import (
	"context"
	"time"
)

// LastSeen is for local.Live.
func (s *Store) LastSeen(ctx context.Context, users []string) ([]time.Time, error) {
	out := make([]time.Time, len(users))
	err := s.reading(ctx, func(r *reader) error {
		// The book comes first: what is written, and taken off it, after that is in neither
		// if the file was looked at before.
		unwritten := make([]int64, len(users))
		for i, user := range users {
			d, _ := s.acks.of(user)
			unwritten[i] = d.seen
		}
		for i, user := range users {
			seen, err := r.seenAt(user)
			if err != nil {
				return err
			}
			if seen = max(seen, unwritten[i]); seen != 0 {
				out[i] = time.Unix(0, seen).UTC()
			}
		}
		return nil
	})
	return out, err
}

// wasSeen notes when a user was last there; it is written with the next acks.
func (w *writer) wasSeen(rec *record, at int64) {
	rec.lastSeen = max(rec.lastSeen, at)
	w.acks.add(rec.user, rec.acked, rec.lastSeen)
}

func (r *reader) seenAt(user string) (int64, error) {
	at, err := with(r.lastSeen).text(user).count()
	return int64(at), err
}
