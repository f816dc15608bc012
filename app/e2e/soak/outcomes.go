package soak

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// lateBound is how late an event's end or its escalation may be told where nothing is
// broken.
const lateBound = time.Minute

// outcome is what the backend was told of an event and one of its recipients: of each
// callback the first try that it took, nil without one.
type outcome struct{ acked, unacked, expired *Callback }

// outcomes reads what the backend was told of events.
func (j *judge) outcomes() map[userEvent]*outcome {
	byID := j.eventsByID()
	all := map[userEvent]*outcome{}
	for _, c := range j.h.Callbacks {
		e := byID[c.Event]
		if e == nil || c.Type == "message.sent" || !c.Taken {
			continue
		}
		k := userEvent{c.User, e.N}
		o := all[k]
		if o == nil {
			o = new(outcome)
			all[k] = o
		}
		for kind, first := range map[string]**Callback{"event.acked": &o.acked, "event.unacked": &o.unacked, "event.expired": &o.expired} {
			if c.Type == kind && *first == nil {
				*first = c
			}
		}
	}
	return all
}

func (j *judge) eventsByID() map[string]*Event {
	events := make(map[string]*Event, len(j.h.Events))
	for _, e := range j.h.Events {
		if e.ID != "" {
			events[e.ID] = e
		}
	}
	return events
}

// contradictions looks for callbacks about one event and one recipient that exclude each
// other, and for those that came late.
func (j *judge) contradictions(told map[userEvent]*outcome) {
	for k, o := range told {
		e := j.h.Events[k.n]
		if j.touched(e, max(o.acked.causedAt(), o.unacked.causedAt(), o.expired.causedAt())) {
			continue // in another life of the store it may have gone another way
		}
		if o.acked != nil && o.expired != nil {
			j.add("callbacks contradict", max(o.acked.At, o.expired.At), "%s, and %s, about %s", o.acked, o.expired, j.event(e))
		}
		if o.acked != nil && o.unacked != nil {
			slack := time.Second // an ack carries the time before its commit
			if j.troubleIn(o.acked.Caused-time.Second, o.unacked.Caused) {
				slack = settling
			}
			if o.acked.Caused+slack < o.unacked.Caused {
				j.add("callbacks contradict", o.unacked.At, "%s after %s, about %s", o.unacked, o.acked, j.event(e))
			}
		}
		late := func(c *Callback, after time.Duration) {
			if c == nil || after <= 0 || !e.Taken() || j.troubleIn(e.By()+after-settling, c.Caused) {
				return
			}
			if c.Caused > e.By()+after+lateBound {
				j.add("callback late", c.Caused, "%s, about %s", c, j.event(e))
			}
		}
		late(o.unacked, e.Escalate)
		late(o.expired, e.TTL)
	}
}

// A debt is a callback that the backend must come to have.
type debt struct {
	k    userEvent
	why  string
	kind string // acked; or ended: acked or expired; or escalated: acked or unacked
}

// paid tells whether the backend has it.
func (j *judge) paid(d debt, o *outcome) bool {
	if o == nil {
		return false
	}
	switch d.kind {
	case "acked":
		return o.acked != nil
	case "ended":
		return o.acked != nil || o.expired != nil
	}
	return o.acked != nil || o.unacked != nil
}

// debts are all callbacks about events that the backend must come to have.
func (j *judge) debts() (all []debt) {
	if !j.h.Told || j.h.Small { // what overflows from a mailbox is not told of
		return nil
	}
	trimmed := map[string]bool{}
	users := map[string]bool{}
	for _, r := range j.h.Readers {
		users[r.User] = true
		for _, c := range r.Conns {
			trimmed[r.User] = trimmed[r.User] || slices.ContainsFunc(c.Items, func(it Item) bool { return it.Kind == Gapped && it.Reason == "trimmed" })
		}
	}
	kept := func(e *Event, user string) bool {
		return e.ID != "" && e.Stores() && len(e.Recalls) == 0 && !trimmed[user] && !j.erasedIn(user, e.First(), j.h.Now()) && !j.replaced(e, user)
	}
	for _, e := range j.h.Events {
		if e.To.Backend || e.To.All || e.TTL <= 0 && e.Escalate == 0 || !e.Taken() || j.maybeLostInRewind(e) {
			continue
		}
		for user := range users {
			if !j.certainlyFor(e, user) || !kept(e, user) {
				continue
			}
			if e.TTL > 0 {
				all = append(all, debt{userEvent{user, e.N}, "it has come to its end", "ended"})
			}
			if e.Escalate > 0 {
				all = append(all, debt{userEvent{user, e.N}, "its escalation was due", "escalated"})
			}
		}
	}
	for k, at := range j.acks {
		if e := j.h.Events[k.n]; kept(e, k.user) && !j.mayForget(e.First(), at) {
			all = append(all, debt{k, fmt.Sprintf("it was acked by %s", at.Round(time.Millisecond)), "acked"})
		}
	}
	return all
}

// mayForget tells whether a store that went back may lack what was stored between two
// moments.
func (j *judge) mayForget(from, by Moment) bool {
	return slices.ContainsFunc(j.h.Rewinds, func(w Rewind) bool { return w.Kept <= by && w.Done >= from })
}

// durableAcks are events of which somebody was told that a user has acked them, before
// their end, and when: by the answer to an ack or to a webhook, or by an operator's look.
func (j *judge) durableAcks() map[userEvent]Moment {
	acked := map[userEvent]Moment{}
	add := func(k userEvent, at Moment) {
		e := j.h.Events[k.n]
		if e.TTL > 0 && at >= e.First()+e.TTL-clockSlack {
			return // it may have expired before
		}
		if before, known := acked[k]; !known || at < before {
			acked[k] = at
		}
	}
	answered := j.answeredAcks()
	for k, seen := range j.seen {
		e := j.h.Events[k.n]
		for _, s := range seen {
			if s.pos == (Position{}) {
				continue
			}
			if at, ok := answered.covering(k.user, s.pos, e.To.All); ok && at >= s.at {
				add(k, at)
			}
		}
	}
	for _, e := range j.h.Events {
		for _, a := range e.Attempts {
			if a.Code == 202 && a.Status == "acked" && e.To.User != "" {
				add(userEvent{e.To.User, e.N}, a.End)
			}
		}
	}
	for _, l := range j.h.Looks {
		if l.Status == "acked" {
			add(userEvent{l.User, l.N}, l.At)
		}
	}
	return acked
}

// ackAnswers are a user's answered acks in one life of the store, by place; At is the
// first moment by which all up to the place were acked.
type ackAnswers map[ackLog][]ackAnswer

type ackLog struct {
	user, tag, life string
	wide            bool
}

type ackAnswer struct {
	place uint64
	at    Moment
}

func (j *judge) answeredAcks() ackAnswers {
	all := ackAnswers{}
	for user, acks := range j.h.Acks {
		for _, k := range acks {
			if k.Answered == Never {
				continue
			}
			mail, wide := ackLog{user, k.Pos.Tag, k.Pos.Life, false}, ackLog{user, k.Pos.Tag, k.Pos.Life, true}
			all[mail] = append(all[mail], ackAnswer{k.Pos.Mailbox, k.Answered})
			all[wide] = append(all[wide], ackAnswer{k.Pos.Broadcast, k.Answered})
		}
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b ackAnswer) int { return cmp.Compare(a.place, b.place) })
		for i := len(list) - 2; i >= 0; i-- {
			list[i].at = min(list[i].at, list[i+1].at)
		}
	}
	return all
}

// covering is when the first ack was answered that covers a place.
func (a ackAnswers) covering(user string, p Position, wide bool) (at Moment, ok bool) {
	place := p.Mailbox
	if wide {
		place = p.Broadcast
	}
	list := a[ackLog{user, p.Tag, p.Life, wide}]
	i, _ := slices.BinarySearchFunc(list, place, func(k ackAnswer, place uint64) int { return cmp.Compare(k.place, place) })
	if i == len(list) {
		return 0, false
	}
	return list[i].at, true
}

// unpaid are the callbacks about events that the backend must have, and has not.
func (j *judge) unpaid(told map[userEvent]*outcome) (left []debt) {
	for _, d := range j.debts() {
		if !j.paid(d, told[d.k]) {
			left = append(left, d)
		}
	}
	return left
}

// Unpaid is how many callbacks about events the backend must come to have, and has not.
func (h *History) Unpaid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := newJudge(h)
	return len(j.unpaid(j.outcomes()))
}
