package soak

import (
	"slices"
	"time"
)

// settling is how long other machines may take to learn what happened on one that
// died or was cut off: its sessions stay present for so long.
const settling = time.Minute

// answers holds each answer about an event to what clients did.
func (j *judge) answers(e *Event) {
	var taken *Attempt
	for i, a := range e.Attempts {
		if a.Code != 202 {
			continue
		}
		touched := j.rewoundIn(e.First(), a.End) || j.anyErased(e, a.End)
		switch {
		case a.Duplicate && i == 0:
			j.add("lie", a.End, "the first request is a duplicate: %s", j.event(e))
		case !a.Duplicate && taken != nil && taken.End < a.Start && !touched:
			j.add("doubled", a.End, "taken twice: %s", j.event(e))
		}
		taken = a
		if touched {
			continue
		}
		switch a.Status {
		case "acked", "received":
			j.claimReached(e, a)
		case "sent":
			j.claimSent(e, a)
		case "queued", "dropped":
			j.claimAway(e, a)
		}
	}
}

func (j *judge) anyErased(e *Event, by Moment) bool {
	return slices.ContainsFunc(j.h.Erasures, func(o *Op) bool {
		return (e.To.Group != "" || e.To.All || e.To.Names(o.User) || e.To.Backend && o.User == e.From) && o.End >= e.First() && o.Start <= by
	})
}

// claimReached judges "received" and "acked": of the recipients who were online
// each must have come so far.
func (j *judge) claimReached(e *Event, a *Attempt) {
	need, users := max(1, a.Online), []string{e.To.User}
	switch {
	case e.To.All:
		return // whom it reached is not said
	case e.To.Users != nil:
		users = e.To.Users
	case e.To.Group != "":
		users = users[:0]
		for _, r := range j.h.Readers {
			if !slices.Contains(users, r.User) && j.mayBeFor(e, r.User, a.End) {
				users = append(users, r.User)
			}
		}
	}
	reached := 0
	for _, u := range users {
		if j.hadBy(u, e, a.End, a.Status) {
			reached++
		}
	}
	if reached < need {
		j.add("lie", a.End, "%d of %d came so far: %s", reached, need, j.event(e))
	}
}

// hadBy tells whether a client of the user can have had the event by then, and
// acked it if that is what was claimed.
func (j *judge) hadBy(user string, e *Event, by Moment, claim string) bool {
	pos := Position{}
	had := false
	for _, s := range j.seen[userEvent{user, e.N}] {
		if s.at <= by {
			had = true
			if s.conn.Reader.Transport == "plain" {
				return true // its pong is its ack
			}
		}
		if pos == (Position{}) || s.at <= by { // later it may have another place, in another life
			pos = s.pos
		}
	}
	if claim == "received" && had {
		return true
	}
	// An ack is cumulative: it covers what had gone from the mailbox unseen.
	if gone := e.TTL > 0 || len(e.Recalls) > 0 || j.replaced(e, user); gone && j.plainWentOn(user, e, by) {
		return true
	}
	return slices.ContainsFunc(j.h.Acks[user], func(k Ack) bool {
		return k.At <= by && (pos == Position{} || k.Pos.Mailbox >= pos.Mailbox)
	})
}

// plainWentOn tells whether a plain client of the user was given something later
// than the event by then, which its pong acks.
func (j *judge) plainWentOn(user string, e *Event, by Moment) bool {
	return slices.ContainsFunc(j.conns[user], func(c *Conn) bool {
		return c.Reader.Transport == "plain" && slices.ContainsFunc(c.Items, func(it Item) bool {
			return it.Kind == Saw && it.N >= 0 && it.At <= by && j.h.Events[it.N].By() >= e.First()
		})
	})
}

// claimSent judges "sent": somebody was there, and one of them was given it.
func (j *judge) claimSent(e *Event, a *Attempt) {
	if e.To.User == "" {
		return // which of the recipients it went to is not said
	}
	there := 0
	for _, c := range slices.Backward(j.conns[e.To.User]) {
		if c.Dialed <= a.End && !c.over(a.Start-settling) {
			there++
		}
		if there > 0 && there >= a.Sessions {
			break
		}
	}
	if there < a.Sessions || there == 0 {
		j.add("lie", a.End, "%d connections can have been there: %s", there, j.event(e))
	}
	if e.Stores() || a.Duplicate || j.troubleIn(a.Start-settling, a.End) {
		return
	}
	// A message that is not kept went to those who were there, or to nobody.
	for _, c := range j.conns[e.To.User] {
		if c.Dialed > a.End || c.over(a.Start-settling) {
			continue
		}
		if !j.heardNewer(c, a.End) || slices.ContainsFunc(c.Items, func(it Item) bool { return it.Kind == Saw && it.N == e.N }) {
			return
		}
	}
	j.add("lie", a.End, "none of the connections was given it: %s", j.event(e))
}

// over tells whether the connection had ended before a moment.
func (c *Conn) over(at Moment) bool { return c.Ended < at }

// heardNewer tells whether the connection was given something that began after a
// moment.
func (j *judge) heardNewer(c *Conn, than Moment) bool {
	for _, it := range slices.Backward(c.Items) {
		if it.At <= than {
			return false
		}
		if it.Kind == Saw && it.N >= 0 && j.h.Events[it.N].First() > than {
			return true
		}
	}
	return false
}

// claimAway judges "queued" and "dropped": nobody was there.
func (j *judge) claimAway(e *Event, a *Attempt) {
	if e.To.User == "" || a.Duplicate || !j.h.Exact && j.troubleIn(a.Start-settling, a.End) {
		return
	}
	for _, c := range j.conns[e.To.User] {
		if c.Connected != 0 && c.Connected < a.Start && j.heardNewer(c, a.End) {
			j.add("lie", a.End, "%s was there: %s", c.describe(), j.event(e))
			return
		}
	}
}

// troubleIn tells whether a fault may have kept machines from knowing of each
// other's sessions.
func (j *judge) troubleIn(from, to Moment) bool {
	return slices.ContainsFunc(j.h.Troubles, func(t Trouble) bool { return t.End >= from && t.Start <= to })
}
