package bridge

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Hub is this machine's sessions, as a Store and a Live see them: it hears what they
// have to tell, and it is the only table of who is connected here. Calls may come at
// the same time from many goroutines, but those for one log come in the order of its
// sequences, never two at a time for the same log. No call blocks. A Deliver may be
// missing, or come late or twice: sessions find the missing sequence and read it from
// the store.
type Hub interface {
	// Deliver hands a message of user's mailbox (or a never stored one to
	// user) to the user's live sessions on this machine and returns how many
	// it went to.
	Deliver(user string, d Delivery) (sessions int)
	// DeliverAll does the same for a message to all.
	DeliverAll(d Delivery) (sessions int)
	// Notify tells this machine's sessions of something they must act on. A
	// recall comes after the Deliver of the message. NoticeErased ends the presence
	// of all sessions that Joined has told of before (of the one that it names).
	Notify(n Notice)
	// Behind tells that the user's sessions (everybody's where user is empty)
	// may have been told nothing of messages up to head, because machines lost
	// sight of each other: those that are not there yet read them from the
	// store.
	Behind(user string, head Position)
	// NewLife tells that the store lives another life than before: it may have
	// gone back in time. Each session here asks LifeEnd how far what it has seen
	// still holds. It comes before any Deliver of that life.
	NewLife(life string)

	// Restored tells that the sessions here are present again, after others may have taken
	// this machine for dead, or the store has lost who was present.
	Restored()

	// Joined tells that a session was let in with the token that it has now. It comes
	// before Join returns; also when Join's caller no longer waits. A session that is
	// not registered here, or has left, is ignored.
	Joined(m Member)
	// Left ends a session's presence and reports whether it was present: let in, and
	// not erased since.
	Left(user, session string) (wasPresent bool)
	// Members lists the user's sessions here that were let in and are still there,
	// each with the token that it was let in with last, oldest first.
	Members(user string) []Member
	// AllMembers does the same for all users, in any order.
	AllMembers() []Member
	// Count counts the user's sessions here (everybody's where user is empty), those
	// that are about to join too, without the ones excepted.
	Count(user string, except []string) int
	// DeliveryLogs returns what the user's live sessions here have been given so far.
	DeliveryLogs(user string) []DeliveryLog
}

// hub is the one table of this machine's sessions. A session is registered before
// it joins, and is removed after it has left.
type hub struct {
	mu      sync.RWMutex // guards what follows and Session.presence; sessions' own locks are taken inside it
	users   map[string][]*Session
	live    int // sessions in users
	staying int // of them, those that have not left

	waits *waits
	now   func() time.Time
	began atomic.Pointer[time.Time] // when the store's life began; nil for the first one

	restored atomic.Bool // Restored was called, and armRestored has not answered it
}

// presence is what Live has said of a session.
type presence struct {
	member  Member // as it was let in last
	letIn   bool   // Joined was called
	hasLeft bool   // Left was called, or its user was erased
}

var _ Hub = (*hub)(nil)

func newHub(w *waits, now func() time.Time) *hub {
	return &hub{users: make(map[string][]*Session), waits: w, now: now}
}

// add registers a session.
func (h *hub) add(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users[s.user] = append(h.users[s.user], s)
	h.live++
	h.staying++
}

// surplus picks those of a user's sessions, oldest first, that are too many: the
// oldest polls, and only where there are not enough polls the oldest of the
// others. A poll comes again by itself, and must not cost a socket its place.
func surplus(sessions []Member, limit int) (out []Member) {
	n := len(sessions) - limit
	for _, polls := range []bool{true, false} {
		for _, s := range sessions {
			if len(out) < n && (s.Transport == transportPoll) == polls {
				out = append(out, s)
			}
		}
	}
	return out
}

// ending reports whether a session of user is here and about to be gone.
func (h *hub) ending(user, session string) bool {
	return slices.ContainsFunc(h.of(user), func(s *Session) bool { return s.id == session && s.isEnding() })
}

func (h *hub) remove(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.users[s.user]
	i := slices.Index(list, s)
	if i < 0 {
		return
	}
	h.live--
	h.depart(s)
	if len(list) == 1 {
		delete(h.users, s.user)
		return
	}
	h.users[s.user] = slices.Delete(list, i, i+1)
}

func (h *hub) count() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.live
}

// depart ends a session's presence; mu is held.
func (h *hub) depart(s *Session) {
	if !s.presence.hasLeft {
		s.presence.hasLeft = true
		h.staying--
	}
}

// Joined implements Hub.
func (h *hub) Joined(m Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[m.User] {
		if s.id == m.Session && !s.presence.hasLeft {
			s.presence.member, s.presence.letIn = m, true
		}
	}
}

// Left implements Hub.
func (h *hub) Left(user, session string) (wasPresent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[user] {
		if s.id == session {
			wasPresent = s.presence.letIn && !s.presence.hasLeft
			h.depart(s)
		}
	}
	return wasPresent
}

// erased ends the presence of a user's sessions, or of one of them.
func (h *hub) erased(user, session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.users[user] {
		if s.presence.letIn && (session == "" || s.id == session) {
			h.depart(s)
		}
	}
}

// Members implements Hub.
func (h *hub) Members(user string) (out []Member) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.users[user] {
		if s.presence.letIn && !s.presence.hasLeft {
			out = append(out, s.presence.member)
		}
	}
	slices.SortFunc(out, OldestFirst)
	return out
}

// AllMembers implements Hub.
func (h *hub) AllMembers() (out []Member) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.each("", func(s *Session) {
		if s.presence.letIn && !s.presence.hasLeft {
			out = append(out, s.presence.member)
		}
	})
	return out
}

// Count implements Hub.
func (h *hub) Count(user string, except []string) (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if user == "" && len(except) == 0 {
		return h.staying
	}
	h.each(user, func(s *Session) {
		if !s.presence.hasLeft && !slices.Contains(except, s.id) {
			n++
		}
	})
	return n
}

// each calls f for the sessions of a user, or for all where user is empty; mu is held.
func (h *hub) each(user string, f func(*Session)) {
	if user != "" {
		for _, s := range h.users[user] {
			f(s)
		}
		return
	}
	for _, list := range h.users {
		for _, s := range list {
			f(s)
		}
	}
}

// all returns every session there is at this moment.
func (h *hub) all() []*Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]*Session, 0, h.live)
	for _, list := range h.users {
		out = append(out, list...)
	}
	return out
}

// Deliver implements Hub.
func (h *hub) Deliver(user string, d Delivery) (sessions int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := h.users[user]
	return h.offer(user, list, d, d.Message.To.User != "" && len(list) <= maxDirect)
}

// maxDirect is how many sessions the goroutine that hands over a message to one user
// writes to itself. A write takes microseconds, and whoever waits for the next message
// waits for it.
const maxDirect = 4

// DeliverAll implements Hub.
func (h *hub) DeliverAll(d Delivery) (sessions int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for user, list := range h.users {
		sessions += h.offer(user, list, d, false)
	}
	return sessions
}

func (h *hub) offer(user string, list []*Session, d Delivery, mayWrite bool) (sessions int) {
	if len(list) == 0 {
		return 0
	}
	if d.Message.Wanted != "" {
		if d.Message.Asker != "" {
			h.waits.addFor(d.Message.ID, d.Message.Wanted, d.Message.Asker)
		}
		h.waits.delivering(user, &d)
		defer func() { h.waits.delivered(user, d.Message.ID, sessions) }()
	}
	for _, s := range list {
		if s.offer(d, mayWrite) {
			sessions++
		}
	}
	return sessions
}

// Behind implements Hub.
func (h *hub) Behind(user string, head Position) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.each(user, func(s *Session) { s.readUpTo(head) })
}

// NewLife implements Hub. Callers who wait for a message know its place in the life
// before. An ack of the same place in the new life would be mistaken for an ack of
// that message, so they are answered now, with what was reached.
func (h *hub) NewLife(life string) {
	at := h.now()
	h.began.Store(&at)
	h.waits.endAll()
	for _, s := range h.all() {
		s.newLife(life)
	}
}

// relayWait tells a caller on another machine how far a user's sessions here have come
// with an event that was appended earlier, now and whenever that changes.
func (h *hub) relayWait(n *Notice) {
	list := h.of(n.User)
	if len(list) == 0 {
		return
	}
	w := h.waits.addFor(n.ID, n.Status, n.Asker)
	h.expect(w, n.User, awaited{mailbox: n.Mailbox, broadcast: n.Broadcast})
}

// expect adds to a wait those sessions of a user here that have an event which was
// appended earlier, and pings them, so that their pongs answer for it soon.
func (h *hub) expect(w *wait, user string, u awaited) {
	sessions, status := h.holding(user, w.id, u.mailbox, u.broadcast)
	if sessions == 0 {
		return
	}
	u.sessions = max(u.sessions, sessions)
	u.status = u.status.Max(status)
	h.waits.expect(w, user, u)
	for _, s := range h.of(user) {
		s.requestPong()
	}
	// A pong may have come before the wait was there to hear it.
	_, u.status = h.holding(user, w.id, u.mailbox, u.broadcast)
	h.waits.expect(w, user, u)
}

// Notify implements Hub.
func (h *hub) Notify(n Notice) {
	switch n.Kind {
	case NoticeReached:
		h.waits.reported(&n)
		return
	case NoticeWanted:
		if n.Asker != "" {
			h.relayWait(&n)
		}
		return
	case NoticeErased:
		h.erased(n.User, n.Session)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.each(n.User, func(s *Session) { s.notice(&n) })
}

// DeliveryLogs implements Hub.
func (h *hub) DeliveryLogs(user string) []DeliveryLog {
	list := h.of(user)
	out := make([]DeliveryLog, 0, len(list))
	for _, s := range list {
		out = append(out, s.deliveryLogNow())
	}
	return out
}

// of returns a user's sessions.
func (h *hub) of(user string) []*Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.users[user])
}

// holding counts the user's sessions here that have a message, and returns the status
// of the furthest of them.
func (h *hub) holding(user, id string, mailbox, broadcast uint64) (sessions int, status Status) {
	status = StatusQueued
	for _, s := range h.of(user) {
		if one := s.statusOf(id, mailbox, broadcast); one != StatusQueued {
			sessions, status = sessions+1, status.Max(one)
		}
	}
	return sessions, status
}

// present lists the users who have sessions here.
func (h *hub) present() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Keys(h.users))
}
