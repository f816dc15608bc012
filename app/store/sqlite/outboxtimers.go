package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Timers that an ack, a recall, a newer message of the topic, a full mailbox or an
// erasure makes void are deleted with that. The escalation of a message that a full mailbox
// has lost stays.

// Kinds of timers in the file.
const (
	timerUnacked = 1
	timerExpired = 2
	timerOffline = 3
)

var timerTypes = map[int64]string{
	timerUnacked: bridge.CallbackUnacked, timerExpired: bridge.CallbackExpired, timerOffline: bridge.CallbackOffline,
}

func kindOf(callback string) (int64, bool) {
	for kind, t := range timerTypes {
		if t == callback {
			return kind, true
		}
	}
	return 0, false
}

// timerRow is a timer as it stands in the file.
type timerRow struct {
	timerID
	due       int64
	id, event string
	after     time.Duration
}

func readTimer(r *sqlite3.Stmt) timerRow {
	return timerRow{timerID{r.ColumnText(0), uint64(r.ColumnInt64(1)), r.ColumnInt64(2)},
		r.ColumnInt64(3), r.ColumnText(4), r.ColumnText(5), time.Duration(r.ColumnInt64(6))}
}

func (s *statements) insertTimer(t timerRow) error {
	return with(s.addTimer).text(t.user).seq(t.seq).int(t.kind).int(t.due).text(t.id).text(t.event).int(int64(t.after)).exec()
}

func (s *statements) deleteTimer(t timerID) error {
	return with(s.dropTimer).text(t.user).seq(t.seq).int(t.kind).exec()
}

// wants is what backends want to hear of a user.
type wants struct {
	acked            []string // who hears of acks
	unacked, expired bool
}

func (w *writer) wants(rec *record) *wants {
	if rec.wants == nil {
		bs := w.outbox.backends
		rec.wants = &wants{
			acked:   bs.Want(bridge.CallbackAcked, rec.user),
			unacked: len(bs.Escalate(rec.user)) > 0,
			expired: len(bs.Want(bridge.CallbackExpired, rec.user)) > 0,
		}
	}
	return rec.wants
}

// setTimers adds those of a message that has just come into a mailbox.
func (w *writer) setTimers(rec *record, m *bridge.Message) error {
	wants := w.wants(rec)
	t := timerRow{timerID: timerID{user: rec.user, seq: rec.head}, id: m.ID, event: m.Type}
	if m.Escalate > 0 && wants.unacked {
		t.kind, t.due, t.after = timerUnacked, nanos(m.EscalatesAt(instant(w.now))), m.Escalate
		if err := w.sql.insertTimer(t); err != nil {
			return err
		}
	}
	if !wants.expired {
		return nil
	}
	t.kind, t.due, t.after = timerExpired, nanos(m.Expires), 0
	return w.sql.insertTimer(t)
}

// voidTimers deletes those of a message that is taken out of a mailbox before its end.
func (w *writer) voidTimers(user string, seq uint64) error {
	if !w.outbox.timed || user == "" || seq == 0 {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	return with(w.sql.timersOf).text(user).seq(seq).exec()
}

// trimmedTimers is how many times as many escalations of messages that a full mailbox has
// lost are kept as it holds messages.
const trimmedTimers = 3

// trimTimers deletes those of a message that a full mailbox loses, but for its escalation:
// nobody has acked it. That of a much older one goes.
func (w *writer) trimTimers(user string, seq uint64, limit int) error {
	if !w.outbox.timed || user == "" {
		return nil
	}
	if err := w.sql.deleteTimer(timerID{user, seq, timerExpired}); err != nil {
		return err
	}
	old := uint64(trimmedTimers * limit)
	if seq <= old {
		return nil
	}
	return with(w.sql.oldEscalations).text(user).seq(seq - old).exec()
}

// ackedTimers deletes those of messages that a user has acked. It runs in the
// transaction in which the ack is written. A message that had come to
// its end before was not acked, and its timers stay.
func (w *writer) ackedTimers(rec *record) error {
	if !w.outbox.timed {
		return nil
	}
	return with(w.sql.timersAcked).text(rec.user).seq(rec.acked.Mailbox).int(w.now).exec()
}

// presenceGrace is how long after a start it is seen who has not come back: a little longer
// than the bridge gives them.
const presenceGrace = bridge.RestartGrace + 5*time.Second

// checkPresenceSoon has it seen soon which users are still there. No session outlives the
// process that it was in, and this is a new one. Users who were there when the last one was
// killed were there for certain when their timers were set.
func checkPresenceSoon(c *sqlite3.Conn, now time.Time) error {
	due := nanos(now.Add(presenceGrace))
	there := fmt.Sprintf("kind = %d AND due > %d", timerOffline, due)
	err := c.Exec(fmt.Sprintf(`UPDATE users SET last_seen = max(last_seen, timers.due - %d)
		FROM timers WHERE timers.user = users.user AND timers.%s`, int64(bridge.PresenceCheck), there))
	return firstOf(err, c.Exec(fmt.Sprintf("UPDATE timers SET due = %d WHERE %s", due, there)))
}

// LeaseTimers implements bridge.Outbox.
func (s *Store) LeaseTimers(ctx context.Context, n int) ([]bridge.Timer, error) {
	var got []bridge.Timer
	err := s.do(ctx, func(w *writer) (err error) {
		got, err = w.leaseTimers(n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

func (w *writer) leaseTimers(n int) (got []bridge.Timer, err error) {
	o := w.outbox
	for id, l := range o.timers {
		if l.until <= w.now {
			delete(o.timers, id)
		}
	}
	for again := true; again && len(got) < n; {
		var rows []timerRow
		err := with(w.sql.dueTimers).int(w.now).each(func(r *sqlite3.Stmt) bool {
			t := readTimer(r)
			if _, leased := o.timers[t.timerID]; !leased {
				rows = append(rows, t)
			}
			return len(got)+len(rows) < n
		})
		if err != nil {
			return nil, err
		}
		again = false
		for _, t := range rows {
			void, err := w.voidByAck(t.timerID)
			if err != nil {
				return nil, err
			}
			if again = again || void; void {
				continue
			}
			l := lease{key: o.key(), until: w.now + int64(bridge.LeaseFor)}
			o.timers[t.timerID] = l
			o.taken = append(o.taken, t.timerID)
			got = append(got, bridge.Timer{Type: timerTypes[t.kind], User: t.user, EventID: t.id, EventType: t.event,
				After: t.after, Due: instant(t.due), Key: l.forTimer(t.seq)})
		}
	}
	return got, nil
}

// forTimer is the key that a holder gets: the lease's, and the timer's place.
func (l lease) forTimer(seq uint64) string { return l.key + "/" + strconv.FormatUint(seq, 10) }

// voidByAck writes the user's ack, if one waits to be written, and tells whether a timer is
// void with that.
func (w *writer) voidByAck(t timerID) (bool, error) {
	if _, waits := w.acks.of(t.user); !waits || t.kind != timerUnacked {
		return false, nil
	}
	if err := w.writeAck(t.user); err != nil {
		return false, err
	}
	left, err := w.hasTimer(t)
	return !left, err
}

func (w *writer) hasTimer(t timerID) (bool, error) {
	n, err := with(w.sql.hasTimer).text(t.user).seq(t.seq).int(t.kind).count()
	return n > 0, err
}

// Fire implements bridge.Outbox.
func (s *Store) Fire(ctx context.Context, t bridge.Timer, cs ...bridge.Callback) (bool, error) {
	key, seq, ok := parseTimerKey(t.Key)
	kind, known := kindOf(t.Type)
	if !ok || !known {
		return false, nil
	}
	id, fired := timerID{t.User, seq, kind}, false
	err := s.ask(ctx, &request{
		needsRoom: true,
		write: func(w *writer) (err error) {
			fired, err = w.fire(id, key, cs)
			return err
		},
		after: func(w *writer) {
			if w.outbox.timers[id].key == key {
				delete(w.outbox.timers, id)
			}
		},
	})
	return err == nil && fired, err
}

func (w *writer) fire(t timerID, key string, cs []bridge.Callback) (fired bool, err error) {
	if t.kind == timerOffline && w.outbox.timers[t].key != key {
		return false, nil // it was armed, or leased to another
	}
	there, err := w.hasTimer(t)
	if err != nil || !there {
		return false, err
	}
	if void, err := w.voidByAck(t); void || err != nil {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	if err := w.sql.deleteTimer(t); err != nil {
		return false, err
	}
	return true, w.post(cs)
}

// Arm implements bridge.Outbox.
func (s *Store) Arm(ctx context.Context, user string, due time.Time, begin bool, cs ...bridge.Callback) (bool, error) {
	begun := false
	err := s.ask(ctx, &request{needsRoom: true, write: func(w *writer) (err error) {
		begun, err = w.arm(user, nanos(due), begin, cs)
		return err
	}})
	return err == nil && begun, err
}

func (w *writer) arm(user string, due int64, begin bool, cs []bridge.Callback) (begun bool, err error) {
	t := timerID{user: user, kind: timerOffline}
	delete(w.outbox.timers, t)
	there, err := w.hasTimer(t)
	if err != nil || !there && !begin {
		return false, err
	}
	if err := w.begin(); err != nil {
		return false, err
	}
	if there {
		return false, with(w.sql.setTimer).int(due).text(t.user).seq(t.seq).int(t.kind).exec()
	}
	return true, firstOf(w.sql.insertTimer(timerRow{timerID: t, due: due}), w.post(cs))
}

func parseTimerKey(key string) (lease string, seq uint64, ok bool) {
	lease, place, ok := strings.Cut(key, "/")
	seq, err := strconv.ParseUint(place, 10, 64)
	return lease, seq, ok && err == nil
}
