package soak

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// clockSlack is how far two readings of the machine's clock may be apart.
	clockSlack = 100 * time.Millisecond
	// trying is how long a try of a callback may be on its way.
	trying = 20 * time.Second
)

// callbacks holds what the backend was told to what happened.
func (j *judge) callbacks() {
	events := j.eventsByID()
	first := map[string]*Callback{} // by webhook-id
	taken := map[string]bool{}
	comings := map[string][]*Callback{} // user.*, by user
	acked := map[userEvent]Moment{}     // when the backend first heard of it
	ids := map[any]*Callback{}          // the first of each cause
	for _, c := range j.h.Callbacks {
		if c.Taken && !taken[c.ID] {
			taken[c.ID] = true
			if c.OfPresence() {
				comings[c.User] = append(comings[c.User], c)
			}
		}
		if before := first[c.ID]; before != nil {
			j.sameBody(before, c)
			continue
		}
		first[c.ID] = c
		if c.OfPresence() {
			continue
		}
		if before := ids[c.cause()]; before != nil {
			j.add("callback altered", c.At, "%s has another webhook-id than %s", c, before)
		}
		ids[c.cause()] = c
		if c.Type == "message.sent" {
			j.sentCallback(c)
			continue
		}
		e := events[c.Event]
		switch {
		case e == nil && c.Of != eventType: // the id of what a user sent may not be known
			continue
		case e == nil || !j.mayBeFor(e, c.User, c.At):
			j.forNothing(c, e, "it was not for that user")
			continue
		}
		switch c.Type {
		case "event.acked":
			acked[userEvent{c.User, e.N}] = c.At
			if !j.touched(e, c.At) && !j.ackable(e, c) {
				j.forNothing(c, e, "nobody can have acked it")
			}
		case "event.unacked":
			at, told := acked[userEvent{c.User, e.N}]
			if !told {
				at = Never
			}
			j.unackedCallback(c, e, at)
		case "event.expired":
			j.expiredCallback(c, e)
		default:
			j.forNothing(c, e, "there is no such callback")
		}
	}
	for _, e := range j.h.Sends {
		if j.unheard(e) {
			j.add("callback lost", e.By(), "the backend never had %s", j.event(e))
		}
	}
	j.sendsInOrder()
	j.tries()
	j.presence(comings)
	told := j.outcomes()
	j.contradictions(told)
	for _, d := range j.unpaid(told) {
		e := j.h.Events[d.k.n]
		j.add("callback lost", e.First(), "%s, and the backend did not hear of it: %s of %s%s", d.why, d.k.user, j.event(e), j.dealings(e, d.k.user, max(e.First(), j.acks[d.k])))
	}
}

func (j *judge) forNothing(c *Callback, e *Event, why string) {
	what := "an event that nobody sent"
	if e != nil {
		what = j.event(e)
	}
	j.add("callback for nothing", c.At, "%s: %s, about %s", why, c, what)
}

func (c *Callback) String() string { return fmt.Sprintf("%s %.400s", c.ID, c.Body) }

// touched tells whether what is known of the event may have been forgotten by a moment.
func (j *judge) touched(e *Event, by Moment) bool {
	return j.rewoundIn(e.First(), by) || j.anyErased(e, by)
}

// sameBody holds a webhook-id to one body. After a rewind the same cause may come about
// at another time. So may a send that is tried again because its answer was lost: it
// has the same id, another timestamp and maybe another session.
func (j *judge) sameBody(before, c *Callback) {
	if c.Body == before.Body || j.rewoundIn(before.At-trying, c.At) || j.erasedIn(c.User, before.At-trying, c.At) {
		return
	}
	again := c.N >= 0 && c.N < len(j.h.Events) && len(j.h.Events[c.N].Attempts) > 1
	if again && c.Type == before.Type && c.User == before.User && c.Event == before.Event && c.Of == before.Of && c.Data == before.Data {
		return
	}
	j.add("callback altered", c.At, "%s was before, at %s, %s", c, before.At.Round(time.Millisecond), before)
}

// sentCallback holds message.sent to what was sent.
func (j *judge) sentCallback(c *Callback) {
	if c.N < 0 || c.N >= len(j.h.Events) {
		j.forNothing(c, nil, "nobody sent it")
		return
	}
	e := j.h.Events[c.N]
	if !e.To.Backend || e.From != c.User || e.Data != c.Data || c.Of != sentType || e.ID != "" && e.ID != c.Event {
		j.forNothing(c, e, "it was sent otherwise")
	}
}

// ackable tells whether the user's clients can have acked the event by the time that
// the backend was told so.
func (j *judge) ackable(e *Event, c *Callback) bool {
	if !e.To.All {
		return j.hadBy(c.User, e, c.At, "acked")
	}
	var places, then []sighting // all that are known, and those of that time: in another life it has another place
	for _, s := range j.seen[userEvent{c.User, e.N}] {
		if s.at <= c.At && s.conn.Reader.Transport == "plain" {
			return true
		}
		if s.pos != (Position{}) {
			if places = append(places, s); s.at <= c.At {
				then = append(then, s)
			}
		}
	}
	if then != nil {
		places = then
	}
	return slices.ContainsFunc(j.h.Acks[c.User], func(k Ack) bool {
		return k.At <= c.At && (places == nil || slices.ContainsFunc(places, func(s sighting) bool { return k.Pos.Broadcast >= s.pos.Broadcast }))
	})
}

// unackedCallback holds event.unacked to an event that asks for it, to its time, and to
// there being no ack or recall that was answered before it was caused. told is when the
// backend heard of an ack.
func (j *judge) unackedCallback(c *Callback, e *Event, told Moment) {
	due := e.First() + e.Escalate - clockSlack // at the earliest
	if e.Escalate == 0 || c.At < due || c.Caused < due {
		j.forNothing(c, e, "it is not due")
		return
	}
	if j.touched(e, c.At) {
		return
	}
	at, acked := j.acks[userEvent{c.User, e.N}]
	if by := c.Caused - clockSlack; told < by || acked && at < by || j.recalledBy(e, by) {
		j.forNothing(c, e, "it had been acked or recalled")
	}
}

// expiredCallback holds event.expired to an event that came to its end, and to there
// being no ack before that, and no recall, that was answered.
func (j *judge) expiredCallback(c *Callback, e *Event) {
	if e.TTL <= 0 || c.At+clockSlack < e.First()+e.TTL || c.Caused+clockSlack < e.First()+e.TTL {
		j.forNothing(c, e, "it has not expired")
		return
	}
	if j.touched(e, c.At) {
		return
	}
	if _, acked := j.acks[userEvent{c.User, e.N}]; acked || j.recalledBy(e, c.Caused-clockSlack) {
		j.forNothing(c, e, "it had been acked or recalled")
	}
}

// recalledBy tells whether a recall of the event was answered by a moment.
func (j *judge) recalledBy(e *Event, by Moment) bool {
	return slices.ContainsFunc(e.Recalls, func(o *Op) bool { return o.End < by })
}

// unheard tells whether the backend should have had a send, and has not.
func (j *judge) unheard(e *Event) bool {
	_, heard := j.h.Heard[e.N]
	return !heard && e.Taken() && !j.maybeLostInRewind(e) && !j.erasedIn(e.From, e.First(), j.h.Now())
}

// Unheard is how many sends the backend should have had, and has not.
func (h *History) Unheard() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := &judge{h: h}
	for _, e := range h.Sends {
		if j.unheard(e) {
			n++
		}
	}
	return n
}

// sendsInOrder holds each user's sends to their order: where one was sent after the answer
// to another, the backend has taken that before it is given this.
func (j *judge) sendsInOrder() {
	of := map[string][]*Event{} // by user
	for _, e := range j.h.Sends {
		if _, tried := j.h.Tried[e.N]; tried && e.From != "" {
			of[e.From] = append(of[e.From], e)
		}
	}
	for _, begun := range of {
		slices.SortFunc(begun, func(a, b *Event) int { return cmp.Compare(a.First(), b.First()) })
		answered := slices.Clone(begun)
		slices.SortFunc(answered, func(a, b *Event) int { return cmp.Compare(a.By(), b.By()) })
		var last *Event // of those that were answered before, the one that was taken last
		for _, e := range begun {
			for len(answered) > 0 && answered[0].By() < e.First() {
				o := answered[0]
				answered = answered[1:]
				taken, ok := j.h.Heard[o.N]
				if ok && !j.touched(o, taken) && (last == nil || taken > j.h.Heard[last.N]) {
					last = o
				}
			}
			if last != nil && j.h.Tried[e.N] < j.h.Heard[last.N] {
				j.add("callbacks out of order", j.h.Heard[last.N], "the backend had %s only after %s", j.event(last), j.event(e))
			}
		}
	}
}
