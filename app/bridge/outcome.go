package bridge

import "context"

// outcome reads a receipt. A first Append is judged by whom it was handed to; a
// duplicate by where its message stands now.
func (b *Bridge) outcome(m *Message, r Receipt) Outcome {
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
	for i := range r.Recipients {
		rc := &r.Recipients[i]
		online, status := rc.Sessions > 0, StatusSent
		if r.Duplicate {
			var holding int
			holding, status = b.hub.holding(rc.User, m.ID, rc.Seq, 0)
			online = holding > 0
			o.Sessions += holding
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

// await waits until everybody who was online has come as far as w wants, the
// time is up, or the machine is about to stop.
func (b *Bridge) await(ctx context.Context, w *wait, m *Message, r *Receipt) {
	if r.Duplicate && !b.expectAgain(ctx, w, m, r) {
		return
	}
	b.waits.seal(w)
	select {
	case <-w.done:
	case <-ctx.Done():
	}
}

// expectAgain waits for those who have an event that was appended earlier. What
// they do between the look and the wait is found by a second look; false where
// the store does not give one.
func (b *Bridge) expectAgain(ctx context.Context, w *wait, m *Message, r *Receipt) bool {
	if m.To.All {
		for _, user := range b.hub.present() {
			b.expectOne(w, user, m.ID, waited{broadcast: r.Broadcast})
		}
		return true
	}
	for i := range r.Recipients {
		rc := &r.Recipients[i]
		u := waited{mailbox: rc.Seq}
		if rc.Acked {
			u.status = StatusAcked
		}
		b.expectOne(w, rc.User, m.ID, u)
	}
	again, err := b.engine.Append(ctx, m)
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

func (b *Bridge) expectOne(w *wait, user, id string, u waited) {
	sessions, status := b.hub.holding(user, id, u.mailbox, u.broadcast)
	if sessions == 0 {
		return
	}
	u.sessions = sessions
	if u.status == "" {
		u.status = status
	}
	b.waits.expect(w, user, u)
	for _, s := range b.hub.of(user) {
		s.askAgain()
	}
	// A pong may have come before the wait was there to hear it.
	if _, status = b.hub.holding(user, id, u.mailbox, u.broadcast); status == StatusReceived {
		b.waits.progress(user, func(of string, now *waited) Status {
			if of == id && now.status.Less(status) {
				return status
			}
			return now.status
		})
	}
}

// reached takes over how far those came who were waited for.
func (o *Outcome) reached(users map[string]*waited) {
	if len(users) == 0 {
		return
	}
	o.Online, o.Sessions, o.Status = len(users), 0, StatusAcked
	for _, u := range users {
		o.Sessions += u.sessions
		if u.status.Less(o.Status) {
			o.Status = u.status
		}
	}
}
