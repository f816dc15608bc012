package bridge

import (
	"context"
	"time"
)

// outcome makes the answer to an event out of its receipt. For a first Append it says
// whom the message went to; for a duplicate, how far the message has come by now.
func (b *Bridge) outcome(ctx context.Context, m *Message, r Receipt) Outcome {
	o := Outcome{ID: m.ID, Duplicate: r.Duplicate, Expires: r.Expires, Sessions: r.Sessions,
		Several: m.To.Users != nil || m.To.Group != ""}
	away := StatusQueued
	if r.Expires.IsZero() {
		away = StatusDropped
	}
	if m.To.All {
		o.Status = away
		if r.Duplicate {
			for _, user := range b.hub.present() {
				sessions, _ := b.hub.holding(user, m.ID, 0, r.Broadcast)
				o.Sessions += sessions
			}
		}
		if o.Sessions > 0 {
			o.Status = StatusSent
		}
		return o
	}
	o.Recipients = len(r.Recipients)
	allAcked := len(r.Recipients) > 0
	var having []holders
	if r.Duplicate {
		having = b.holding(ctx, m.ID, r.Recipients)
	}
	for i := range r.Recipients {
		rc := &r.Recipients[i]
		online, status := rc.Sessions > 0, StatusSent
		if r.Duplicate {
			status = having[i].status
			online = having[i].sessions > 0
			o.Sessions += having[i].sessions
		}
		if rc.Acked {
			status = StatusAcked
		} else {
			allAcked = false
		}
		if !online {
			continue
		}
		o.Online++
		if o.Status == "" || status.Less(o.Status) {
			o.Status = status
		}
	}
	switch {
	case o.Status != "":
	case allAcked: // nobody is online now, but everybody has it
		o.Status = StatusAcked
	default:
		o.Status = away
	}
	return o
}

// holders are the sessions of one user that have a message, and how far the
// furthest of them is with it.
type holders struct {
	sessions int
	status   Status
}

// holding tells for each recipient which sessions, on all machines, have a message.
// Where other machines cannot be asked, only those here count.
func (b *Bridge) holding(ctx context.Context, id string, recipients []Recipient) []holders {
	out := make([]holders, len(recipients))
	users := make([]string, len(recipients))
	for i := range recipients {
		users[i] = recipients[i].User
	}
	logs, err := b.validDeliveryLogs(ctx, users, true)
	for i := range recipients {
		h := &out[i]
		if err != nil {
			h.sessions, h.status = b.hub.holding(users[i], id, recipients[i].Seq, 0)
			continue
		}
		h.status = StatusQueued
		for j := range logs[i] {
			t := &logs[i][j]
			if status := t.StatusOf(id, recipients[i].Seq, 0); t.Ended.IsZero() && status != StatusQueued {
				h.sessions, h.status = h.sessions+1, h.status.Max(status)
			}
		}
	}
	return out
}

// reached takes over how far those came who were waited for.
func (o *Outcome) reached(users map[string]*awaited) {
	if len(users) == 0 {
		return
	}
	o.Online, o.Sessions, o.Status = len(users), 0, StatusAcked
	for _, u := range users {
		o.Sessions += u.total()
		if u.status.Less(o.Status) {
			o.Status = u.status
		}
	}
}

// Outcome is the truthful answer to one event.
type Outcome struct {
	ID         string
	Status     Status
	Sessions   int // live sessions it went to
	Duplicate  bool
	Expires    time.Time // zero if never stored
	Several    bool      // the target may be several users: Recipients and Online count them
	Recipients int
	Online     int
}
