package bridge

import "context"

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
			if !t.Ended.IsZero() {
				continue
			}
			status := t.StatusOf(id, recipients[i].Seq, 0)
			if status == StatusQueued {
				continue
			}
			h.sessions++
			if h.status.Less(status) {
				h.status = status
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
