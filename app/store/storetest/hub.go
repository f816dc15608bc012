package storetest

import (
	"context"
	"slices"
	"sync"

	"hookbridge/app/bridge"
)

// Hub is a bridge.Hub without sockets, for tests to build upon: it keeps the table of
// who is connected, and hears nothing of messages.
type Hub struct {
	mu       sync.Mutex // guards what follows
	sessions []*session
	logs     []bridge.DeliveryLog
}

// session is one in the table.
type session struct {
	user, name     string
	member         bridge.Member // as it was let in last
	letIn, hasLeft bool
}

func (s *session) present() bool { return s.letIn && !s.hasLeft }

// Join has a session join as the bridge does: it is in the table first, and out of it
// where it was not let in.
func (h *Hub) Join(ctx context.Context, l bridge.Live, m bridge.Member) (bridge.JoinState, error) {
	h.mu.Lock()
	if h.find(m.User, m.Session) == nil {
		h.sessions = append(h.sessions, &session{user: m.User, name: m.Session})
	}
	h.mu.Unlock()
	st, err := l.Join(ctx, m)
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if s := h.find(m.User, m.Session); s != nil && !s.letIn {
			s.hasLeft = true
		}
	}
	return st, err
}

// restart is a new process: nobody is connected.
func (h *Hub) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = nil
}

// find is a session that has not left; mu is held.
func (h *Hub) find(user, name string) *session {
	i := slices.IndexFunc(h.sessions, func(s *session) bool { return s.user == user && s.name == name && !s.hasLeft })
	if i < 0 {
		return nil
	}
	return h.sessions[i]
}

// Joined implements bridge.Hub.
func (h *Hub) Joined(m bridge.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.find(m.User, m.Session); s != nil {
		s.member, s.letIn = m, true
	}
}

// Left implements bridge.Hub.
func (h *Hub) Left(user, name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.find(user, name)
	if s == nil {
		return false
	}
	s.hasLeft = true
	return s.letIn
}

// Notify implements bridge.Hub, as far as the table goes.
func (h *Hub) Notify(n bridge.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if n.Kind == bridge.NoticeErased && s.user == n.User && s.letIn && (n.Session == "" || n.Session == s.name) {
			s.hasLeft = true
		}
	}
}

// Members implements bridge.Hub.
func (h *Hub) Members(user string) []bridge.Member {
	list := slices.DeleteFunc(h.AllMembers(), func(m bridge.Member) bool { return m.User != user })
	slices.SortFunc(list, bridge.OldestFirst)
	return list
}

// AllMembers implements bridge.Hub.
func (h *Hub) AllMembers() (out []bridge.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if s.present() {
			out = append(out, s.member)
		}
	}
	return out
}

// Count implements bridge.Hub.
func (h *Hub) Count(user string, except []string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if (user == "" || s.user == user) && !s.hasLeft && !slices.Contains(except, s.name) {
			n++
		}
	}
	return n
}

// SetDeliveryLogs sets what DeliveryLogs answers.
func (h *Hub) SetDeliveryLogs(logs ...bridge.DeliveryLog) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs = logs
}

// DeliveryLogs implements bridge.Hub.
func (h *Hub) DeliveryLogs(user string) []bridge.DeliveryLog {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.logs), func(l bridge.DeliveryLog) bool { return l.Member.User != user })
}

// Deliver implements bridge.Hub.
func (h *Hub) Deliver(user string, d bridge.Delivery) int { return h.Count(user, d.Message.Except) }

// DeliverAll implements bridge.Hub.
func (h *Hub) DeliverAll(d bridge.Delivery) int { return h.Count("", d.Message.Except) }

// Behind implements bridge.Hub.
func (h *Hub) Behind(string, bridge.Position) {}

// NewLife implements bridge.Hub.
func (h *Hub) NewLife(string) {}

// Restored implements bridge.Hub.
func (h *Hub) Restored() {}
