package bridge

import (
	"slices"
	"sync"
)

// hub knows the sessions of this machine. It is the engine's Listener: the
// engine calls it in the order of each log, and no call blocks.
type hub struct {
	mu    sync.RWMutex // guards what follows; sessions' own locks are taken inside it
	users map[string][]*Session
	live  int
}

var _ Listener = (*hub)(nil)

func newHub() *hub { return &hub{users: make(map[string][]*Session)} }

// add registers a session. Where the user would have more than limit, the
// oldest is returned, to be closed by the caller.
func (h *hub) add(s *Session, limit int) (replaced []*Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.users[s.user]
	if n := len(list) + 1 - limit; n > 0 {
		replaced = slices.Clone(list[:n])
	}
	h.users[s.user] = append(list, s)
	h.live++
	return replaced
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

// Deliver implements Listener.
func (h *hub) Deliver(user string, d Delivery) (sessions int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.users[user] {
		if s.offer(d) {
			sessions++
		}
	}
	return sessions
}

// DeliverAll implements Listener.
func (h *hub) DeliverAll(d Delivery) (sessions int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, list := range h.users {
		for _, s := range list {
			if s.offer(d) {
				sessions++
			}
		}
	}
	return sessions
}

// holding counts the sessions of user that were handed the message at seq of
// the mailbox, and how far the furthest of them is with it.
func (h *hub) holding(user string, seq uint64) (sessions int, status Status) {
	status = StatusQueued
	if seq == 0 {
		return 0, status
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.users[user] {
		written, received := s.reached()
		if written.Mailbox < seq {
			continue
		}
		sessions++
		if status == StatusQueued {
			status = StatusSent
		}
		if received.Mailbox >= seq {
			status = StatusReceived
		}
	}
	return sessions, status
}

// holdingAll counts the sessions that were handed the message to all at seq.
func (h *hub) holdingAll(seq uint64) (sessions int) {
	if seq == 0 {
		return 0
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, list := range h.users {
		for _, s := range list {
			if written, _ := s.reached(); written.Broadcast >= seq {
				sessions++
			}
		}
	}
	return sessions
}
