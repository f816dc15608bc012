package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"hookbridge/app/bridge"

	"github.com/ncruces/go-sqlite3"
)

// DeliveryLogs implements bridge.Store.
func (s *Store) DeliveryLogs(ctx context.Context, users []string) ([][]bridge.DeliveryLog, error) {
	out := make([][]bridge.DeliveryLog, len(users))
	err := s.reading(ctx, func(r *reader) (err error) {
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

// deliveryLogs reads those of a user's sessions that have ended.
func (r *reader) deliveryLogs(user string) (out []bridge.DeliveryLog, err error) {
	var perr error
	err = with(r.endedLogs).text(user).each(func(row *sqlite3.Stmt) bool {
		var t bridge.DeliveryLog
		if perr = json.Unmarshal(row.ColumnRawBlob(0), &t); perr != nil {
			return false
		}
		out = append(out, t)
		return true
	})
	return out, firstOf(err, perr)
}

// Exit is for local.Live.
func (s *Store) Exit(ctx context.Context, log bridge.DeliveryLog) error {
	var kept []byte
	if !log.Empty() {
		var err error
		if kept, err = json.Marshal(log); err != nil {
			return fmt.Errorf("keep a delivery log: %w", err)
		}
	}
	m, at := log.Member, nanos(log.Ended)
	return s.enqueue(ctx, &request{write: func(w *writer) error { return w.leave(m, at, kept) }})
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
	if err := with(w.sql.addDeliveryLog).text(m.User).int(at).text(m.Session).blob(log).exec(); err != nil {
		return err
	}
	return with(w.sql.keepDeliveryLogs).text(m.User).int(bridge.MaxDeliveryLogs).exec()
}

// pruneDeliveryLogs removes delivery logs that are older than ids are remembered.
func (w *writer) pruneDeliveryLogs() (more bool, err error) {
	before := w.now - int64(w.opts.IDRetention)
	if n, err := with(w.sql.oldDeliveryLog).int(before).count(); err != nil || n == 0 {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	err = with(w.sql.dropDeliveryLogs).int(before).int(pruneIDs).exec()
	return true, err
}
