package sqlite

import (
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Callbacks and timers as an Archive carries them.

func (d *dump) callback(r *sqlite3.Stmt) error {
	c := &bridge.CallbackEntry{ID: r.ColumnText(0), Backend: r.ColumnText(1), Type: r.ColumnText(2), User: r.ColumnText(3),
		At: r.ColumnInt64(4), Due: r.ColumnInt64(5), Tries: r.ColumnInt(6), Since: r.ColumnInt64(7), Dead: r.ColumnInt64(8),
		Last: r.ColumnText(9), Body: r.ColumnBlob(10, []byte{})}
	if c.Dead != 0 && c.Dead <= d.now-int64(bridge.DeadCallbacksFor) {
		return nil
	}
	return d.take(bridge.Entry{Callback: c})
}

// takenRow is true of the rows that takenMessage has made. Those of older versions, and of
// users who were erased since, have no names: they are given as events.
const takenRow = "id >= 'taken:' AND id < 'taken;' AND topic IS NOT NULL AND sender <> ''"

func (d *dump) taken(r *sqlite3.Stmt) error {
	t := &bridge.TakenEntry{ID: strings.TrimPrefix(r.ColumnText(0), takenPrefix), Backend: r.ColumnText(1), User: r.ColumnText(2), At: r.ColumnInt64(3)}
	if d.until(t.At, 0, false) <= d.now {
		return nil
	}
	return d.take(bridge.Entry{Taken: t})
}

func (a *Archive) loadTaken(t *bridge.TakenEntry) error {
	added, err := a.sql.addMessage(a.nextNo, takenMessage(t.ID, t.Backend, t.User, t.At), t.At, []byte{})
	if added {
		a.nextNo++
	}
	return err
}

func (d *dump) timer(r *sqlite3.Stmt) error {
	t := readTimer(r)
	return d.take(bridge.Entry{Timer: &bridge.TimerEntry{User: t.user, Seq: t.seq, Type: timerTypes[t.kind], EventID: t.id,
		EventType: t.event, After: int64(t.after), Due: t.due}})
}

func (a *Archive) loadCallback(e *bridge.CallbackEntry) error {
	c := bridge.Callback{ID: e.ID, Backend: e.Backend, Type: e.Type, User: e.User, At: bridge.ArchiveTime(e.At), Body: e.Body}
	due, now := e.Due, a.opts.Now().UnixNano()
	if due == 0 && e.Dead == 0 && !c.InOrder() {
		due = now
	}
	added, err := a.sql.insertCallback(c, rankOf(c.Type), due, e.Tries, e.Since, e.Dead, e.Last)
	if err != nil || !added || !c.InOrder() || e.Dead != 0 {
		return err
	}
	_, err = a.sql.moveUp(c.User, c.Backend, now)
	return err
}

func (a *Archive) loadTimer(e *bridge.TimerEntry) error {
	kind, ok := kindOf(e.Type)
	if !ok {
		return bridge.ErrBadEntry
	}
	return a.sql.insertTimer(timerRow{timerID{e.User, e.Seq, kind}, e.Due, e.EventID, e.EventType, time.Duration(e.After)})
}
