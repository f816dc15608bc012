package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Callbacks lie in one table, and all that is done with them the writer does, so that
// each is in the commit of what caused it. Leases are in memory: this process alone has
// the file, and its end frees them.
//
// Of a user's messages to a backend only the first has a time at which it is due; the
// next gets one when that is done or dead.

// Ranks of callbacks: where there are too many, those of the lowest rank go first, and
// those of the highest never.
const (
	rankUser = iota
	rankEvent
	rankSent
	ranks
)

// kinds are the ranks in the words of the metrics.
var kinds = [ranks]string{"user", "event", "message"}

func rankOf(callback string) int {
	switch {
	case callback == bridge.CallbackSent:
		return rankSent
	case strings.HasPrefix(callback, "user."):
		return rankUser
	}
	return rankEvent
}

// stock is how many callbacks there are for a backend, and how many bytes their bodies
// have.
type stock struct {
	waiting   [ranks]int
	bytes     [ranks]int64
	dead      int
	deadBytes int64
}

func (s *stock) add(rank int, dead bool, n int, bytes int64) {
	if dead {
		s.dead += n
		s.deadBytes += bytes
		return
	}
	s.waiting[rank] += n
	s.bytes[rank] += bytes
}

func (s *stock) all() (n int, bytes int64) {
	for rank := range ranks {
		n, bytes = n+s.waiting[rank], bytes+s.bytes[rank]
	}
	return n, bytes
}

// lease is one on a callback or a timer.
type lease struct {
	key     string
	backend string // empty for a timer
	until   int64  // Unix nanoseconds
}

// timerID names a timer.
type timerID struct {
	user string
	seq  uint64
	kind int64
}

// outbox is what the writer knows of callbacks and timers beside what the file has.
type outbox struct {
	backends bridge.Backends
	on       bool // there are backends
	timed    bool // there are, or there may be timers from when there were
	limit    stockLimit
	posted   chan struct{}
	life     int64 // makes the keys of leases differ from those of before a restart
	leases   int64 // that were given out

	stocks    map[string]*stock
	callbacks map[string]lease // by the callback's id
	timers    map[timerID]lease

	// Of the transaction that runs.
	before map[string]stock // the stocks that it has changed, as they were
	leased []string         // callbacks
	taken  []timerID
	due    bool // a callback has become due
}

// stockLimit bounds a stock, what waits and what is dead each.
type stockLimit struct {
	n     int
	bytes int64
}

func (l stockLimit) exceeded(n int, bytes int64) bool { return n > l.n || bytes > l.bytes }

func newOutbox(e *Store, s *statements) (*outbox, error) {
	o := &outbox{
		backends: e.opts.Backends, on: len(e.opts.Backends) > 0, limit: stockLimit{e.opts.MaxCallbacks, e.opts.MaxCallbackBytes},
		posted: e.posted, life: e.lives.no, stocks: map[string]*stock{}, callbacks: map[string]lease{},
		timers: map[timerID]lease{}, before: map[string]stock{},
	}
	err := with(s.stocks).each(func(r *sqlite3.Stmt) bool {
		o.stock(r.ColumnText(0)).add(r.ColumnInt(1), r.ColumnBool(2), r.ColumnInt(3), r.ColumnInt64(4))
		return true
	})
	if err != nil {
		return nil, err
	}
	left, err := queryInt(s.conn, "SELECT EXISTS (SELECT 1 FROM timers)")
	o.timed = o.on || left != 0
	return o, err
}

func (o *outbox) stock(backend string) *stock {
	s := o.stocks[backend]
	if s == nil {
		s = new(stock)
		o.stocks[backend] = s
	}
	return s
}

// change counts callbacks of a transaction: n are more, or less.
func (o *outbox) change(backend string, rank int, dead bool, n int, bytes int64) {
	s := o.stock(backend)
	if _, known := o.before[backend]; !known {
		o.before[backend] = *s
	}
	s.add(rank, dead, n, bytes)
}

// key makes the key of a new lease.
func (o *outbox) key() string {
	o.leases++
	return fmt.Sprintf("%d.%d", o.life, o.leases)
}

// begin is called before each transaction. When it is called again, nothing that was done
// before can be taken back any more.
func (o *outbox) begin() {
	clear(o.before)
	o.leased, o.taken, o.due = o.leased[:0], o.taken[:0], false
}

// written is called once a transaction is committed, or nothing had to be written.
func (o *outbox) written() {
	if o.due {
		select {
		case o.posted <- struct{}{}:
		default:
		}
	}
	o.begin()
}

// failed is called whenever a transaction is rolled back: the counts are again those of
// the file, and what it leased is free.
func (o *outbox) failed() {
	for backend, was := range o.before {
		*o.stocks[backend] = was
	}
	for _, id := range o.leased {
		delete(o.callbacks, id)
	}
	for _, t := range o.taken {
		delete(o.timers, t)
	}
	o.begin()
}

// Posted implements bridge.Outbox.
func (s *Store) Posted() <-chan struct{} { return s.posted }

// Post implements bridge.Outbox.
func (s *Store) Post(ctx context.Context, cs ...bridge.Callback) error {
	return s.ask(ctx, &request{needsRoom: true, write: func(w *writer) error {
		if full, err := w.outboxFull(cs); full || err != nil {
			return firstOf(err, refuse(bridge.ErrOutboxFull))
		}
		return w.post(cs)
	}})
}

// outboxFull tells whether messages among some new callbacks have no room, even if
// everything that may go went.
func (w *writer) outboxFull(cs []bridge.Callback) (bool, error) {
	more := map[string]*stock{}
	for i, c := range cs {
		if !c.InOrder() || slices.ContainsFunc(cs[:i], func(o bridge.Callback) bool { return o.ID == c.ID }) {
			continue
		}
		if known, err := w.knownMessage(c); known || err != nil {
			if err != nil {
				return false, err
			}
			continue
		}
		s := more[c.Backend]
		if s == nil {
			s = new(stock)
			*s = *w.outbox.stock(c.Backend)
			more[c.Backend] = s
		}
		s.add(rankSent, false, 1, int64(len(c.Body)))
		if w.outbox.limit.exceeded(s.waiting[rankSent], s.bytes[rankSent]) {
			return true, nil
		}
	}
	return false, nil
}

// knownMessage tells whether a message.sent is there, or its backend has taken it.
func (w *writer) knownMessage(c bridge.Callback) (bool, error) {
	if _, known, err := w.sql.callback(c.ID); known || err != nil {
		return known, err
	}
	taken, err := w.sql.find(takenID(c.ID))
	return taken.digest != nil, err
}

// post stores callbacks in the running transaction. One of a user who was erased since
// it was caused is not stored.
func (w *writer) post(cs []bridge.Callback) error {
	for _, c := range cs {
		if at, ok := w.erasures[c.User]; ok && c.At.Before(at) {
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		rank, due := rankOf(c.Type), w.now
		if c.InOrder() {
			if known, err := w.knownMessage(c); known || err != nil {
				if err != nil {
					return err
				}
				continue
			}
			due = 0 // see moveUp
		}
		added, err := w.sql.insertCallback(c, rank, due, 0, nanos(c.At), 0, "")
		if err != nil {
			return err
		}
		if !added {
			continue
		}
		w.outbox.change(c.Backend, rank, false, 1, int64(len(c.Body)))
		w.outbox.due = w.outbox.due || due != 0
		if c.InOrder() {
			if err := w.moveUp(c.User, c.Backend); err != nil {
				return err
			}
		}
		if err := w.makeRoom(c.Backend); err != nil {
			return err
		}
	}
	return nil
}

// insertCallback tells whether there was none of that id.
func (s *statements) insertCallback(c bridge.Callback, rank int, due int64, tries int, since, dead int64, last string) (bool, error) {
	body := c.Body
	if body == nil {
		body = []byte{}
	}
	err := with(s.addCallback).text(c.ID).text(c.Backend).text(c.Type).text(c.User).int(int64(rank)).int(nanos(c.At)).int(due).
		int(int64(tries)).int(since).int(dead).text(last).blob(body).exec()
	return err == nil && s.conn.Changes() > 0, err
}

// callback finds one by its id.
func (s *statements) callback(id string) (c storedCallback, known bool, err error) {
	err = with(s.findCallback).text(id).each(func(r *sqlite3.Stmt) bool {
		c, known = readStored(r), true
		return false
	})
	return c, known, err
}

// moveUp sees to it that the first of a user's messages to a backend is due, and that
// no other is.
func (w *writer) moveUp(user, backend string) error {
	moved, err := w.sql.moveUp(user, backend, w.now)
	w.outbox.due = w.outbox.due || moved
	return err
}

func (s *statements) moveUp(user, backend string, now int64) (moved bool, err error) {
	var line []int64
	var due []bool
	err = with(s.userLine).text(user).text(backend).each(func(r *sqlite3.Stmt) bool {
		line, due = append(line, r.ColumnInt64(0)), append(due, r.ColumnBool(1))
		return true
	})
	if err == nil && len(line) > 0 && !due[0] {
		moved, err = true, with(s.setDue).int(now).int(line[0]).exec()
	}
	if err == nil && len(line) > 1 && due[1] {
		err = with(s.setDue).int(0).int(line[1]).exec()
	}
	return moved, err
}

// makeRoom lets callbacks go where too many wait for a backend.
func (w *writer) makeRoom(backend string) error {
	for rank := rankUser; rank < rankSent; {
		if !w.outbox.limit.exceeded(w.outbox.stock(backend).all()) {
			return nil
		}
		first, err := with(w.sql.firstToGo).text(backend).int(int64(rank)).storedCallbacks()
		if err != nil {
			return err
		}
		if len(first) == 0 {
			rank++
			continue
		}
		if err := w.removeCallback(first[0]); err != nil {
			return err
		}
		w.store.metrics.dropped.WithLabelValues(backend, kinds[rank]).Inc()
	}
	return nil
}

// removeCallback takes one out, in a transaction that has begun.
func (w *writer) removeCallback(c storedCallback) error {
	if err := with(w.sql.dropCallback).int(c.no).exec(); err != nil {
		return err
	}
	w.outbox.change(c.backend, c.rank, c.dead, -1, -c.size)
	return nil
}
