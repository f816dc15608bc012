package bridge

import (
	"math"
	"slices"
	"time"
)

// Bounds of a delivery log: what is older is forgotten, and From moves on.
const (
	maxMarks    = 128 // of each kind
	maxSkips    = 64
	maxUnstored = 64
)

// Mark says that a session had everything up to a place at a time.
type Mark struct {
	Place Position  `json:"p"`
	At    time.Time `json:"t"`
}

// Skip is a stretch of places, both ends in it, that a session passed without a
// frame: what was gone, or not for it.
type Skip struct {
	First, Last Position
}

// Unstored is a message without a place that a session was handed.
type Unstored struct {
	ID       string    `json:"id"`
	Frame    uint64    `json:"n"` // how many event frames the session had with it
	Sent     time.Time `json:"sent"`
	Received time.Time `json:"received,omitzero"`
}

// DeliveryLog is what one session went through: when it was sent, had received and
// had acked what. It is exact within its bounds and says nothing beyond them.
// Stores keep it as JSON.
type DeliveryLog struct {
	Member Member    `json:"member"`
	Ended  time.Time `json:"ended,omitzero"`  // zero while it lives
	Ending bool      `json:"ending,omitzero"` // it is about to: nothing more is handed to it
	// Life is the life of the store that all places here are of.
	Life string `json:"life,omitempty"`
	// From is the place after which the log knows everything.
	From     Position   `json:"from"`
	Sent     []Mark     `json:"sent,omitempty"`
	Received []Mark     `json:"received,omitempty"`
	Acked    []Mark     `json:"acked,omitempty"`
	Skips    []Skip     `json:"holes,omitempty"`
	Unstored []Unstored `json:"passing,omitempty"`
}

// Times are those of one message in one session; zero where it has not happened
// or is not known.
type Times struct {
	Sent, Received, Acked time.Time
}

// Empty reports whether the session was handed nothing.
func (t *DeliveryLog) Empty() bool { return len(t.Sent) == 0 && len(t.Unstored) == 0 }

// Of tells what the session did with a message, by its id and place; false where
// the session was not handed it, as far as is known.
func (t *DeliveryLog) Of(id string, mailbox, broadcast uint64) (Times, bool) {
	if mailbox == 0 && broadcast == 0 {
		for _, p := range t.Unstored {
			if p.ID == id {
				return Times{Sent: p.Sent, Received: p.Received}, true
			}
		}
		return Times{}, false
	}
	place := Position{Mailbox: mailbox, Broadcast: broadcast}
	if t.From.Covers(place) || t.skipped(place) {
		return Times{}, false
	}
	times := Times{Sent: firstAt(t.Sent, place), Received: firstAt(t.Received, place), Acked: firstAt(t.Acked, place)}
	return times, !times.Sent.IsZero()
}

// StatusOf tells how far a live session is with a message. StatusQueued: it does
// not have it and will not be handed it.
func (t *DeliveryLog) StatusOf(id string, mailbox, broadcast uint64) Status {
	place := Position{Mailbox: mailbox, Broadcast: broadcast}
	times, had := t.Of(id, mailbox, broadcast)
	switch {
	case had && !times.Received.IsZero():
		return StatusReceived
	case had:
		return StatusSent
	case place == Position{}:
		return StatusQueued
	case t.From.Covers(place):
		return StatusReceived // in an earlier connection, or its cursor would not be beyond it
	case t.Ending || t.skipped(place) || len(t.Sent) > 0 && t.Sent[len(t.Sent)-1].Place.Covers(place):
		return StatusQueued
	}
	return StatusSent // in its queue, or in the store where it is reading
}

// skipped tells whether the session passed a place without a frame.
func (t *DeliveryLog) skipped(place Position) bool {
	return slices.ContainsFunc(t.Skips, func(h Skip) bool { return h.has(place) })
}

func firstAt(marks []Mark, place Position) time.Time {
	i := slices.IndexFunc(marks, func(m Mark) bool { return m.Place.Covers(place) })
	if i < 0 {
		return time.Time{}
	}
	return marks[i].At
}

// has works for a place in one log; a skip is in one log too.
func (h Skip) has(p Position) bool {
	if p.Mailbox != 0 {
		return h.First.Mailbox != 0 && h.First.Mailbox <= p.Mailbox && p.Mailbox <= h.Last.Mailbox
	}
	return h.First.Broadcast != 0 && h.First.Broadcast <= p.Broadcast && p.Broadcast <= h.Last.Broadcast
}

// forget moves From on: what is before is not known any more.
func (t *DeliveryLog) forget(p Position) {
	t.From = t.From.Max(p)
	t.Skips = slices.DeleteFunc(t.Skips, func(h Skip) bool { return t.From.Covers(h.Last) })
}

// mark adds a mark to one of the log's lists. A full list forgets its oldest half.
func (t *DeliveryLog) mark(list *[]Mark, p Position, at time.Time) {
	marks := *list
	if n := len(marks); n > 0 && marks[n-1].Place.Covers(p) {
		return
	}
	if len(marks) >= maxMarks {
		// Half at once, so that a busy session does not move its lists with
		// every message.
		t.forget(marks[maxMarks/2-1].Place)
		marks = slices.Delete(marks, 0, maxMarks/2)
	}
	*list = append(marks, Mark{Place: p, At: at})
}

// skip notes places that were passed without a frame.
func (t *DeliveryLog) skip(first, last Position) {
	if n := len(t.Skips); n > 0 {
		h := &t.Skips[n-1]
		if h.First.Mailbox != 0 && first.Mailbox == h.Last.Mailbox+1 || h.First.Broadcast != 0 && first.Broadcast == h.Last.Broadcast+1 {
			h.Last = last
			return
		}
	}
	if len(t.Skips) >= maxSkips {
		t.forget(t.Skips[maxSkips/2-1].Last)
	}
	t.Skips = append(t.Skips, Skip{First: first, Last: last})
}

// notYet is the frame of a message that waits to be written.
const notYet = math.MaxUint64

// unstored notes a message without a place: first that it waits (n is notYet),
// then that it is about to be written as the session's n-th event frame.
func (t *DeliveryLog) unstored(id string, n uint64) {
	for i := range t.Unstored {
		if p := &t.Unstored[i]; p.ID == id && p.Frame == notYet {
			p.Frame = n
			return
		}
	}
	if len(t.Unstored) >= maxUnstored {
		t.Unstored = slices.Delete(t.Unstored, 0, maxUnstored/2)
	}
	t.Unstored = append(t.Unstored, Unstored{ID: id, Frame: n})
}

// dropUnstored forgets a message that waits no longer.
func (t *DeliveryLog) dropUnstored(id string) {
	t.Unstored = slices.DeleteFunc(t.Unstored, func(p Unstored) bool { return p.ID == id && p.Frame == notYet })
}

// unstoredSent notes when the frames up to the n-th were sent.
func (t *DeliveryLog) unstoredSent(n uint64, at time.Time) {
	for i := len(t.Unstored) - 1; i >= 0 && t.Unstored[i].Sent.IsZero(); i-- {
		if t.Unstored[i].Frame <= n {
			t.Unstored[i].Sent = at
		}
	}
}

// unstoredReceived notes when the frames up to the n-th were received.
func (t *DeliveryLog) unstoredReceived(n uint64, at time.Time) {
	for i := len(t.Unstored) - 1; i >= 0 && t.Unstored[i].Received.IsZero(); i-- {
		if t.Unstored[i].Frame <= n {
			t.Unstored[i].Received = at
		}
	}
}

// end closes the log: what is still queued was not sent.
func (t *DeliveryLog) end(at time.Time) {
	t.Ended, t.Ending = at, false
	t.Unstored = slices.DeleteFunc(t.Unstored, func(p Unstored) bool { return p.Frame == notYet })
}

func (t *DeliveryLog) clone() DeliveryLog {
	c := *t
	c.Sent, c.Received, c.Acked = slices.Clone(t.Sent), slices.Clone(t.Received), slices.Clone(t.Acked)
	c.Skips, c.Unstored = slices.Clone(t.Skips), slices.Clone(t.Unstored)
	return c
}

// rewind cuts the log back to p.
func (t *DeliveryLog) rewind(p Position) {
	t.From = t.From.Min(p)
	for _, list := range []*[]Mark{&t.Sent, &t.Received, &t.Acked} {
		cut := (*list)[:0]
		for _, m := range *list {
			m.Place = m.Place.Min(p)
			if n := len(cut); n == 0 || !cut[n-1].Place.Covers(m.Place) {
				cut = append(cut, m)
			}
		}
		*list = cut
	}
	skips := t.Skips[:0]
	for _, h := range t.Skips {
		if h.Last = h.Last.Min(p); h.First.Mailbox <= h.Last.Mailbox && h.First.Broadcast <= h.Last.Broadcast {
			skips = append(skips, h)
		}
	}
	t.Skips = skips
}
