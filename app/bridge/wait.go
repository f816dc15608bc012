package bridge

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hookbridge/app/guard"
)

// waits is every caller who waits until an event was received or acked (?wait=…).
// While there is none, a pong or an ack costs one atomic load.
type waits struct {
	open atomic.Int64

	mu     sync.Mutex // guards what follows; taken inside the hub's and a session's lock
	byID   map[string][]*wait
	byUser map[string][]*wait
	closed bool

	// tell passes a notice on to another machine; it does not block.
	tell  func(Notice)
	guard *guard.Guard
}

// wait is one caller. Where asker is set the caller is on that machine, and each step
// is told to it by a notice.
type wait struct {
	id    string
	level Status // StatusReceived or StatusAcked
	asker string
	done  chan struct{}

	// What follows is guarded by waits.mu.
	users  map[string]*awaited
	sealed bool // all recipients who are waited for are known
	atMost int  // with sealed: other machines name recipients until they have so many sessions
	left   int  // how many users are below level
	ended  bool
}

// awaited is a recipient who was online, and how far they have come.
type awaited struct {
	mailbox, broadcast uint64
	sessions           int
	elsewhere          map[string]int // sessions that other machines have told of, for a message to all
	status             Status
}

func (u *awaited) total() int {
	n := u.sessions
	for _, sessions := range u.elsewhere {
		n += sessions
	}
	return n
}

func newWaits(tell func(Notice)) *waits {
	return &waits{byID: make(map[string][]*wait), byUser: make(map[string][]*wait), tell: tell}
}

// add begins to wait. It is called before the event is appended, because a pong may
// come before Append returns.
func (ws *waits) add(id string, level Status) *wait {
	w := &wait{id: id, level: level, done: make(chan struct{}), users: make(map[string]*awaited)}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		w.end()
	}
	ws.byID[id] = append(ws.byID[id], w)
	ws.open.Add(1)
	return w
}

func (w *wait) end() {
	if !w.ended {
		w.ended = true
		close(w.done)
	}
}

// delivering notes that a message is about to go to a user's sessions. delivered
// follows, with the number of sessions it went to; a user whom it did not reach is not
// waited for.
func (ws *waits) delivering(user string, d *Delivery) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byID[d.Message.ID] {
		ws.merge(w, user, awaited{mailbox: d.Mailbox, broadcast: d.Broadcast, status: StatusSent})
	}
}

// merge adds what is newly known of a user to a wait; mu is held.
func (ws *waits) merge(w *wait, user string, news awaited) {
	u := w.users[user]
	if u == nil {
		w.users[user] = &news
		ws.byUser[user] = append(ws.byUser[user], w)
		if news.status.Less(w.level) {
			w.left++
		}
		return
	}
	u.mailbox, u.broadcast = max(u.mailbox, news.mailbox), max(u.broadcast, news.broadcast)
	u.sessions = max(u.sessions, news.sessions)
	ws.raise(w, user, u, news.status)
}

// raise notes that a user has come further; mu is held.
func (ws *waits) raise(w *wait, user string, u *awaited, status Status) {
	if !u.status.Less(status) {
		return
	}
	if u.status.Less(w.level) && !status.Less(w.level) {
		w.left--
	}
	u.status = status
	if w.asker != "" {
		ws.tell(Notice{Kind: NoticeReached, To: w.asker, User: user, ID: w.id, Status: status, Sessions: u.sessions,
			Mailbox: u.mailbox, Broadcast: u.broadcast})
	}
	w.check()
}

func (ws *waits) delivered(user, id string, sessions int) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byID[id] {
		u := w.users[user]
		if u == nil {
			continue
		}
		u.sessions = max(u.sessions, sessions)
		if w.asker != "" && u.sessions > 0 && u.broadcast != 0 { // whom a message to all reached, its sender cannot know
			ws.tell(Notice{Kind: NoticeReached, To: w.asker, User: user, ID: id, Status: u.status, Sessions: u.sessions,
				Broadcast: u.broadcast})
		}
		if u.total() == 0 {
			if u.status.Less(w.level) {
				w.left--
			}
			delete(w.users, user)
			drop(ws.byUser, user, w)
		}
		w.check()
	}
}

// expect adds a recipient of an event that was appended earlier.
func (ws *waits) expect(w *wait, user string, u awaited) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.merge(w, user, u)
}

// allKnown says that all who are waited for are known, but for those that other
// machines have yet to name until there are so many sessions.
func (ws *waits) allKnown(w *wait, sessions int) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.sealed, w.atMost = true, sessions
	w.check()
}

func (w *wait) check() {
	if !w.sealed || w.left > 0 || w.asker != "" {
		return
	}
	known := 0
	for _, u := range w.users {
		known += u.total()
	}
	if known >= w.atMost {
		w.end()
	}
}

// addFor begins to wait for a caller on another machine, who waits no longer
// than MaxWait.
func (ws *waits) addFor(id string, level Status, asker string) *wait {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byID[id] {
		if w.asker == asker {
			return w
		}
	}
	w := &wait{id: id, level: level, asker: asker, done: make(chan struct{}), users: make(map[string]*awaited)}
	ws.byID[id] = append(ws.byID[id], w)
	ws.open.Add(1)
	time.AfterFunc(MaxWait, func() { ws.guard.Run("timer", func() { ws.remove(w) }) })
	return w
}

// reported takes over what another machine says of a user.
func (ws *waits) reported(n *Notice) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byID[n.ID] {
		if w.asker == "" {
			ws.merge(w, n.User, awaited{mailbox: n.Mailbox, broadcast: n.Broadcast, status: n.Status})
			if u := w.users[n.User]; n.Broadcast != 0 { // of others the store knew the number
				if u.elsewhere == nil {
					u.elsewhere = make(map[string]int)
				}
				u.elsewhere[n.Asker] = n.Sessions
			}
			w.check()
		}
	}
}

// advance raises a user in every wait that reached tells has come further.
func (ws *waits) advance(user string, reached func(id string, u *awaited) Status) {
	if ws.open.Load() == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byUser[user] {
		u := w.users[user]
		ws.raise(w, user, u, reached(w.id, u))
	}
}

// concern reports whether a caller waits for a user.
func (ws *waits) concern(user string) bool {
	if ws.open.Load() == 0 {
		return false
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.byUser[user]) > 0
}

// acked raises a user to acked in all that lies up to p.
func (ws *waits) acked(user string, p Position) {
	ws.advance(user, func(_ string, u *awaited) Status {
		if (u.mailbox != 0 || u.broadcast != 0) && p.Covers(Position{Mailbox: u.mailbox, Broadcast: u.broadcast}) {
			return StatusAcked
		}
		return u.status
	})
}

// remove takes a wait off the lists and returns how far each recipient who was online
// has come.
func (ws *waits) remove(w *wait) map[string]*awaited {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.open.Add(-1)
	drop(ws.byID, w.id, w)
	for user := range w.users {
		drop(ws.byUser, user, w)
	}
	return w.users
}

// drop takes a wait off the list of a key.
func drop(lists map[string][]*wait, key string, w *wait) {
	if left := slices.DeleteFunc(lists[key], func(o *wait) bool { return o == w }); len(left) > 0 {
		lists[key] = left
	} else {
		delete(lists, key)
	}
}

// close ends all waits, those to come too: the machine is about to stop.
func (ws *waits) close() {
	ws.mu.Lock()
	ws.closed = true
	ws.mu.Unlock()
	ws.endAll()
}

// endAll ends all waits there are.
func (ws *waits) endAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, list := range ws.byID {
		for _, w := range list {
			w.end()
		}
	}
}

// await returns when every recipient who was online has come to the level of w, when
// ctx ends, or when the machine is about to stop.
func (b *Bridge) await(ctx context.Context, w *wait, m *Message, r *Receipt) {
	elsewhere := 0
	switch {
	case r.Duplicate:
		if !b.expectAgain(ctx, w, m, r) {
			return
		}
	case m.To.All:
		elsewhere = r.Sessions // the machines that have them will tell whose they are
	default:
		for i := range r.Recipients {
			if rc := &r.Recipients[i]; rc.Sessions > 0 {
				b.waits.expect(w, rc.User, awaited{mailbox: rc.Seq, sessions: rc.Sessions, status: StatusSent})
			}
		}
	}
	b.waits.allKnown(w, elsewhere)
	select {
	case <-w.done:
	case <-ctx.Done():
	}
}

// expectAgain waits for those who have an event that was appended earlier. An ack that
// comes after holding has asked for their status and before the wait is set up would be
// missed: so the store is asked once more afterwards. It returns false where that fails.
func (b *Bridge) expectAgain(ctx context.Context, w *wait, m *Message, r *Receipt) bool {
	if m.To.All {
		for _, user := range b.hub.present() {
			b.hub.expect(w, user, awaited{broadcast: r.Broadcast})
		}
		return true
	}
	for i, h := range b.holding(ctx, m.ID, r.Recipients) {
		rc := &r.Recipients[i]
		u := awaited{mailbox: rc.Seq, sessions: h.sessions, status: h.status}
		if u.sessions == 0 {
			continue
		}
		if rc.Acked {
			u.status = StatusAcked
		}
		b.waits.expect(w, rc.User, u)
		b.hub.expect(w, rc.User, u)
		if err := b.live.Tell(ctx, Notice{Kind: NoticeWanted, User: rc.User, ID: m.ID, Mailbox: rc.Seq, Status: w.level}); err != nil {
			return false
		}
	}
	// The event is stored already, so that Append stores nothing: it answers as for any
	// duplicate, with who has acked it by now.
	again, err := b.store.Append(ctx, m)
	if err != nil {
		return false
	}
	for i := range again.Recipients {
		if rc := &again.Recipients[i]; rc.Acked {
			b.waits.acked(rc.User, Position{Mailbox: rc.Seq})
		}
	}
	return true
}

// Wait is how long a caller wants to wait until the event has come how far. The
// zero Wait waits for nothing.
type Wait struct {
	For     Status // StatusReceived or StatusAcked
	Timeout time.Duration
	// Caller ends the wait early when it ends, as it does when whoever waits for
	// the answer hangs up; nil never ends.
	Caller context.Context
	// Stored, where set, is called once, after the events were stored (or
	// refused) and before the wait: what was held for the storing can be given
	// back to others then.
	Stored func()
}

// MaxWait bounds Wait.Timeout.
const MaxWait = 30 * time.Second
