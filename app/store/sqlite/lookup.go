package sqlite

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Lookup implements bridge.Store.
func (s *Store) Lookup(ctx context.Context, id string) (bridge.Record, error) {
	var rec bridge.Record
	now := s.opts.Now().UnixNano()
	for {
		written := uint64(0)
		err := s.reading(ctx, func(r *reader) error {
			written = s.acks.writtenSoFar()
			var err error
			if rec, err = r.record(id, now); err != nil {
				return err
			}
			for i := range rec.Recipients {
				f := &rec.Recipients[i]
				if d, ok := s.acks.of(f.User); ok {
					f.Acked = f.Acked || f.Seq != 0 && d.acked.Mailbox >= f.Seq || rec.Broadcast != 0 && d.acked.Broadcast >= rec.Broadcast
				}
			}
			return nil
		})
		// An ack that was written after the file was looked at, and taken off the book
		// before that was, was in neither.
		if err != nil {
			return rec, err
		}
		if s.acks.writtenSoFar() == written {
			return rec, s.keepAcksTold(ctx, rec.Acked())
		}
	}
}

// Seen implements bridge.Store. It is written down with what is stored next.
func (s *Store) Seen(ctx context.Context, user, session, id string, at time.Time) error {
	err := s.reading(ctx, func(r *reader) error {
		theirs, err := r.addressed(id, user)
		if err == nil && !theirs {
			return bridge.ErrUnknown
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.enqueue(ctx, &request{write: func(w *writer) error { return w.saw(user, session, id, nanos(at)) }})
}

// record reads all that the file has about an event. ErrUnknown.
func (r *reader) record(id string, now int64) (bridge.Record, error) {
	rec := bridge.Record{ID: id}
	var places []place
	found := false
	err := with(r.event).text(id).row(func(row *sqlite3.Stmt) (err error) {
		found = true
		rec.Type, rec.Timestamp, rec.From = row.ColumnText(0), time.Unix(0, row.ColumnInt64(1)).UTC(), row.ColumnText(2)
		rec.Expires, rec.Recalled = instant(row.ColumnInt64(3)), instant(row.ColumnInt64(4))
		if rec.Except, err = parseNames(row.ColumnRawBlob(5)); err == nil {
			places, err = parsePlaces(row.ColumnRawBlob(6))
		}
		return err
	})
	if err != nil {
		return rec, err
	}
	if !found {
		return rec, bridge.ErrUnknown
	}
	if len(places) == 1 && places[0].user == "" {
		rec.All, rec.Broadcast = true, places[0].seq
		if err := r.everybody(&rec, now); err != nil {
			return rec, err
		}
		return rec, r.seenBy(&rec)
	}
	for _, p := range places {
		f := bridge.RecipientStatus{User: p.user, Seq: p.seq}
		if p.seq != 0 {
			if f.Held, err = r.holds(p, now); err != nil {
				return rec, err
			}
			acked, err := with(r.standing).text(p.user).count()
			if err != nil {
				return rec, err
			}
			f.Acked = uint64(acked) >= p.seq
		}
		rec.Recipients = append(rec.Recipients, f)
	}
	return rec, r.seenBy(&rec)
}

func (r *reader) holds(p place, now int64) (bool, error) {
	n, err := with(r.held).text(p.user).seq(p.seq).int(now).count()
	return n > 0, err
}

// everybody lists the users who own a message to all: every user there is, where it was
// never stored.
func (r *reader) everybody(rec *bridge.Record, now int64) error {
	held, before := false, uint64(math.MaxInt64)
	if rec.Broadcast != 0 {
		var err error
		if held, err = r.holds(place{"", rec.Broadcast}, now); err != nil {
			return err
		}
		before = rec.Broadcast
	}
	return with(r.owners).seq(before).int(bridge.MaxListed + 1).each(func(row *sqlite3.Stmt) bool {
		if len(rec.Recipients) == bridge.MaxListed {
			rec.More = true
			return false
		}
		rec.Recipients = append(rec.Recipients, bridge.RecipientStatus{
			User: row.ColumnText(0), Held: held, Acked: rec.Broadcast != 0 && uint64(row.ColumnInt64(1)) >= rec.Broadcast,
		})
		return true
	})
}

func (r *reader) seenBy(rec *bridge.Record) error {
	by := make(map[string]int, len(rec.Recipients))
	for i, f := range rec.Recipients {
		by[f.User] = i
	}
	return with(r.seen).text(rec.ID).each(func(row *sqlite3.Stmt) bool {
		if i, ok := by[row.ColumnText(0)]; ok {
			rec.Recipients[i].Seen = append(rec.Recipients[i].Seen, bridge.SeenAt{Session: row.ColumnText(1), At: instant(row.ColumnInt64(2))})
		}
		return true
	})
}

// addressed reports whether an event was for a user.
func (r *reader) addressed(id, user string) (yes bool, err error) {
	var places []place
	err = with(r.event).text(id).row(func(row *sqlite3.Stmt) (err error) {
		places, err = parsePlaces(row.ColumnRawBlob(6))
		return err
	})
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if p.user == user {
			return true, nil
		}
		if p.user != "" {
			continue
		}
		s, err := r.shelf(user)
		if err != nil {
			return false, err
		}
		return s.seen && (p.seq == 0 || s.first < p.seq), nil
	}
	return false, nil
}

// saw writes that a user saw an event. It looks again whether the event is for
// that user, who may have been erased since Seen looked it up.
func (w *writer) saw(user, session, id string, at int64) error {
	k, err := w.sql.find(id)
	if err != nil {
		return err
	}
	rec, err := w.record(user)
	if err != nil {
		return err
	}
	theirs := slices.ContainsFunc(k.places, func(p place) bool {
		return p.user == user || p.user == "" && rec.seen && (p.seq == 0 || rec.first < p.seq)
	})
	if !theirs || w.scarce {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	return with(w.sql.addSeen).text(id).text(user).text(session).int(at).exec()
}
