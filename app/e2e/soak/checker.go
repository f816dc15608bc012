package soak

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Finding is a promise that was broken.
type Finding struct {
	Kind string
	At   Moment
	Text string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s at %s: %s", f.Kind, f.At.Round(time.Millisecond), f.Text)
}

// judge reads a history. Its caller holds the history's lock.
type judge struct {
	h     *History
	found []Finding

	// seen says where and when the user's clients saw an event.
	seen  map[userEvent][]sighting
	conns map[string][]*Conn   // of a user, in the order in which they were begun
	acks  map[userEvent]Moment // see durableAcks
}

type userEvent struct {
	user string
	n    int
}

type sighting struct {
	at   Moment
	pos  Position
	conn *Conn
}

// Check judges a history that has come to rest. The findings are in the order in
// which they happened.
func Check(h *History) []Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := newJudge(h)
	j.found = slices.Clone(h.Notes)
	for _, r := range h.Readers {
		for _, c := range r.Conns {
			j.connection(c)
		}
		j.rewindsTold(r)
		for _, e := range j.missing(r, j.candidates(r)) {
			j.add("lost", e.By(), "%s never saw %s%s", r.describe(), j.event(e), j.around(r, e.First()))
		}
		if r.Fresh {
			j.freshDevice(r)
		}
	}
	j.places()
	j.recalls()
	j.revocations()
	j.callbacks()
	for _, e := range h.Events {
		j.answers(e)
	}
	sort.SliceStable(j.found, func(a, b int) bool { return j.found[a].At < j.found[b].At })
	return j.found
}

func newJudge(h *History) *judge {
	j := &judge{h: h, seen: map[userEvent][]sighting{}, conns: map[string][]*Conn{}}
	for _, r := range h.Readers {
		for _, c := range r.Conns {
			j.conns[r.User] = append(j.conns[r.User], c)
			for i := range c.Items {
				if it := &c.Items[i]; it.Kind == Saw && it.N >= 0 {
					k := userEvent{r.User, it.N}
					j.seen[k] = append(j.seen[k], sighting{it.At, it.Pos, c})
				}
			}
		}
	}
	for _, conns := range j.conns {
		slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.Dialed, b.Dialed) })
	}
	j.acks = j.durableAcks()
	return j
}

func (j *judge) add(kind string, at Moment, format string, args ...any) {
	j.found = append(j.found, Finding{Kind: kind, At: at, Text: fmt.Sprintf(format, args...)})
}

// Missing are the events that a reader is owed and has not seen yet, of those
// given, or of all where of is nil.
func (h *History) Missing(r *Reader, of []*Event) []*Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := &judge{h: h}
	if of == nil {
		of = j.candidates(r)
	}
	return j.missing(r, of)
}

// candidates are the events that may be for the reader's user.
func (j *judge) candidates(r *Reader) []*Event {
	return append(slices.Clone(j.h.ForUser[r.User]), j.h.Wide...)
}

// missing are those events that the reader is owed and has not seen.
func (j *judge) missing(r *Reader, of []*Event) (left []*Event) {
	if r.Fresh || len(r.Conns) == 0 {
		return nil
	}
	had := map[int]bool{}
	for _, c := range r.Conns {
		for i := range c.Items {
			if it := &c.Items[i]; it.Kind == Saw {
				had[it.N] = true
			}
		}
	}
	o := j.owing(r)
	for _, e := range of {
		if !had[e.N] && j.owed(o, e) {
			left = append(left, e)
		}
	}
	return left
}

// connection judges what one connection was given: only what is for its user, in
// order, each once.
func (j *judge) connection(c *Conn) {
	r := c.Reader
	once := map[int]Moment{}
	var place Position
	var latest [2]*Event // of each log, the one that was begun last
	for i := range c.Items {
		it := &c.Items[i]
		if it.Kind == Gapped {
			j.gapExplained(c, it)
			if it.Reason == "rewound" {
				once, latest = map[int]Moment{}, [2]*Event{}
			} else if !it.Pos.Covers(place) {
				j.add("backwards", it.At, "%s: a gap to %v after %v", c.describe(), it.Pos, place)
			}
			place = it.Pos
			continue
		}
		if it.Kind != Saw || it.N < 0 {
			continue
		}
		e := j.h.Events[it.N]
		if !j.mayBeFor(e, r.User, it.At) {
			j.add("seen by another", it.At, "%s saw %s%s", c.describe(), j.event(e), j.standing(e, r.User))
		}
		if before, twice := once[it.N]; twice && !(r.Transport == "plain" && j.rewoundIn(before, it.At)) {
			j.add("doubled", it.At, "%s saw twice %s", c.describe(), j.event(e))
		}
		once[it.N] = it.At
		if it.Pos != (Position{}) {
			if !it.Pos.Covers(place) || e.Stores() && it.Pos == place {
				j.add("backwards", it.At, "%s: %v after %v with %s", c.describe(), it.Pos, place, j.event(e))
			}
			place = it.Pos
		}
		if !e.Stores() {
			continue
		}
		log := 0
		if e.To.All {
			log = 1
		}
		if last := latest[log]; last != nil && e.By() < last.First() && !j.rewoundIn(e.First(), it.At) {
			j.add("out of order", it.At, "%s saw %s after %s", c.describe(), j.event(e), j.event(last))
		}
		if last := latest[log]; last == nil || e.First() > last.First() {
			latest[log] = e
		}
	}
}

// gapExplained holds a gap to its reason.
func (j *judge) gapExplained(c *Conn, it *Item) {
	switch it.Reason {
	case "expired":
		for _, e := range j.candidates(c.Reader) {
			if e.TTL > 0 && e.First()+e.TTL <= it.At && j.mayBeFor(e, c.Reader.User, it.At) {
				return
			}
		}
		j.add("gap without a cause", it.At, "%s: nothing of %s has expired: %v", c.describe(), c.Reader.User, *it)
	case "rewound", "ahead", "foreign":
		if !j.rewoundIn(0, it.At) && !j.erasedIn(c.Reader.User, 0, it.At) {
			j.add("gap without a cause", it.At, "%s: the store did not go back: %v", c.describe(), *it)
		}
	case "trimmed": // what a full mailbox loses depends on its limits
	default:
		j.add("gap without a cause", it.At, "%s: %v", c.describe(), *it)
	}
}

// rewoundIn tells whether the store may have gone back in time between two moments.
func (j *judge) rewoundIn(from, to Moment) bool {
	return slices.ContainsFunc(j.h.Rewinds, func(w Rewind) bool { return w.Done >= from && w.At <= to })
}

// erasedIn tells whether the user may have been erased between two moments.
func (j *judge) erasedIn(user string, from, to Moment) bool {
	return slices.ContainsFunc(j.h.Erasures, func(o *Op) bool { return o.User == user && o.End >= from && o.Start <= to })
}

// places holds the logs to one event a place, and to one place an event.
func (j *judge) places() {
	type place struct {
		tag, life string
		broadcast bool
		at        uint64
	}
	if len(j.h.Rewinds) > 0 {
		return // what was lost may be sent again, and gets another place
	}
	at := map[place]*Event{}
	for k, seen := range j.seen {
		e := j.h.Events[k.n]
		if !e.Stores() {
			continue
		}
		var first *place
		for _, s := range seen {
			if s.pos == (Position{}) {
				continue
			}
			p := place{s.pos.Tag, s.pos.Life, e.To.All, s.pos.Mailbox}
			if p.broadcast {
				p.at = s.pos.Broadcast
			}
			if first == nil {
				first = &p
			} else if *first != p && first.tag == p.tag && first.life == p.life {
				j.add("doubled", s.at, "%s has two places, %v and %v, in the log of %s", j.event(e), *first, p, k.user)
			}
			if other := at[p]; other != nil && other != e {
				j.add("doubled", s.at, "%s and %s have one place, %v, in the log of %s", j.event(e), j.event(other), p, k.user)
			}
			at[p] = e
		}
	}
}

// recalls holds recalled events to being gone: no connection that is begun
// afterwards is given one.
func (j *judge) recalls() {
	for k, seen := range j.seen {
		for _, op := range j.h.Events[k.n].Recalls {
			for _, s := range seen {
				if op.End < s.conn.Dialed && !j.rewoundIn(op.Start, s.at) {
					j.add("recalled, and seen", s.at, "%s saw %s, which was recalled at %s", s.conn.describe(), j.event(j.h.Events[k.n]), op.End)
				}
			}
		}
	}
}

// revocations holds revoked tokens to being no good any more.
func (j *judge) revocations() {
	revoked := map[string]*Op{} // by the token's id
	for _, op := range j.h.Revocations {
		revoked[op.Token] = op
	}
	for _, r := range j.h.Readers {
		for _, c := range r.Conns {
			op := revoked[c.Token]
			if op == nil || op.User != r.User {
				continue
			}
			if c.Dialed > op.End && c.Connected != 0 && !j.rewoundIn(op.Start, c.Connected) {
				j.add("revoked, and let in", c.Connected, "%s has a token that was revoked at %s", c.describe(), op.End)
			}
			if c.Ended >= j.h.Rest && op.End < j.h.Rest && !c.Renewed && !j.rewoundIn(op.Start, j.h.Now()) {
				j.add("revoked, and still there", op.End, "%s has a token that was revoked", c.describe())
			}
		}
	}
}

func (r *Reader) describe() string { return fmt.Sprintf("%s (%s of %s)", r.Name, r.Transport, r.User) }

func (c *Conn) describe() string {
	return fmt.Sprintf("%s, connection %d from %s at process %d", c.Reader.describe(), slices.Index(c.Reader.Conns, c), c.Dialed.Round(time.Millisecond), c.Proc)
}

// event describes one with all that is known of it.
func (j *judge) event(e *Event) string {
	s := fmt.Sprintf("event %d (%s, to %v", e.N, e.ID, e.To)
	if e.TTL != Forever {
		s += fmt.Sprintf(", ttl %s", e.TTL)
	}
	if e.Topic != "" {
		s += ", topic " + e.Topic
	}
	s += ")"
	for _, a := range e.Attempts {
		end := "no answer"
		if a.End != Never {
			end = fmt.Sprintf("%s %d %s sessions=%d", a.End.Round(time.Millisecond), a.Code, a.Status, a.Sessions)
			if a.Duplicate {
				end += " duplicate"
			}
		}
		s += fmt.Sprintf(" [%s to %s]", a.Start.Round(time.Millisecond), end)
	}
	return s
}
