package soak

import "slices"

// owing is what is known of a reader before its events are judged.
type owing struct {
	r *Reader
	// since is the moment from which on everything to its user must reach it, and
	// wide the same for messages to all.
	since, wide Moment
	// fresh are the moments at which it had come without a cursor: it asked for
	// nothing that had expired by then, or that another device had acked.
	fresh []Moment
}

func (j *judge) owing(r *Reader) owing {
	o := owing{r: r, since: Never, wide: Never}
	for _, c := range r.Conns {
		if c.Connected == 0 {
			continue
		}
		if o.since == Never {
			o.since, o.wide = c.Connected, c.Connected
		}
		if c.After == "" {
			o.fresh = append(o.fresh, c.Connected)
			if !r.Sole {
				o.since, o.wide = c.Connected, c.Connected
			}
		}
	}
	if r.Sole {
		o.since = 0 // nobody acked anything before it came
	}
	for _, op := range j.h.Erasures {
		if op.User != r.User {
			continue
		}
		o.since = max(o.since, op.End)
		o.wide = max(o.wide, op.End)
		// To the store the user is new, and is known from the next connect on.
		known := Never
		for _, other := range j.h.Readers {
			if other.User != r.User {
				continue
			}
			for _, c := range other.Conns {
				if c.Dialed >= op.End && c.Connected != 0 {
					known = min(known, c.Connected)
				}
			}
		}
		o.wide = max(o.wide, known)
	}
	return o
}

// owed tells whether the reader must have seen the event.
func (j *judge) owed(o owing, e *Event) bool {
	if !e.Stores() || !e.Taken() || len(e.Recalls) > 0 {
		return false
	}
	since := o.since
	if e.To.All {
		since = o.wide
	}
	if e.First() <= since || !j.certainlyFor(e, o.r.User) {
		return false
	}
	if j.maybeLostInRewind(e) || j.replaced(e, o.r.User) {
		return false
	}
	if e.TTL > 0 && (o.r.Transport == "plain" || slices.ContainsFunc(o.fresh, func(at Moment) bool { return e.First()+e.TTL <= at })) {
		return false // it may have expired, and no gap is owed
	}
	return !j.announced(o.r, e)
}

// certainlyFor tells whether the event went to the user whatever happened first.
func (j *judge) certainlyFor(e *Event, user string) bool {
	if e.To.Group == "" {
		return e.To.All || e.To.Names(user)
	}
	ops := j.h.Memberships[Member{user, e.To.Group}]
	return slices.ContainsFunc(ops, func(in *Op) bool {
		return in.Add && in.End < e.First() && !j.rewoundIn(in.Start, e.By()) && !j.erasedIn(user, in.Start, e.By()) &&
			!slices.ContainsFunc(ops, func(o *Op) bool { return !o.Add && o.End >= in.Start && o.Start <= e.By() })
	})
}

// mayBeFor tells whether the event can have gone to the user, as it seems at a
// moment.
func (j *judge) mayBeFor(e *Event, user string, at Moment) bool {
	if e.To.Group == "" {
		return e.To.All || e.To.Names(user)
	}
	by := min(e.By(), at)
	if j.rewoundIn(by, at) && slices.ContainsFunc(e.Attempts, func(a *Attempt) bool { return a.Code == 0 && a.Start <= at }) {
		by = at // the store that went back may have taken it once more, unanswered
	}
	ops := j.h.Memberships[Member{user, e.To.Group}]
	return slices.ContainsFunc(ops, func(in *Op) bool {
		ends := func(o *Op) bool { return o.Start > in.End && o.End < e.First() && !j.rewoundIn(o.Start, by) }
		return in.Add && in.Start <= by &&
			!slices.ContainsFunc(ops, func(o *Op) bool { return !o.Add && ends(o) }) &&
			!slices.ContainsFunc(j.h.Erasures, func(o *Op) bool { return o.User == user && ends(o) })
	})
}

// maybeLostInRewind tells whether the event may be what a store forgot when it
// went back in time.
func (j *judge) maybeLostInRewind(e *Event) bool {
	// A request that survived every rewind is needed: one that was made before a copy
	// may have been lost to an earlier rewind.
	return !slices.ContainsFunc(e.Attempts, func(a *Attempt) bool {
		return a.Code == 202 && !slices.ContainsFunc(j.h.Rewinds, func(w Rewind) bool { return a.End >= w.Kept && a.Start <= w.Done })
	})
}

// replaced tells whether a newer event with the same topic may have taken its
// place in the user's mailbox.
func (j *judge) replaced(e *Event, user string) bool {
	if e.Topic == "" {
		return false
	}
	replaces := func(o *Event) bool {
		return o != e && o.Topic == e.Topic && o.Stores() && !(o.By() < e.First()) &&
			(o.Taken() || len(o.Recalls) > 0 || o.TTL > 0 || o.Seen > 0) && o.To.All == e.To.All && j.mayBeFor(o, user, o.By())
	}
	return slices.ContainsFunc(j.h.ForUser[user], replaces) || slices.ContainsFunc(j.h.Wide, replaces)
}

// announced tells whether a gap that the reader was told of may cover the event. A
// gap is told before all that is still held, so its own cursors do not say where
// the hole is; it must come before anything later of the same log.
func (j *judge) announced(r *Reader, e *Event) bool {
	var before Moment // the latest beginning of what was seen in this log so far
	for _, c := range r.Conns {
		for i := range c.Items {
			it := &c.Items[i]
			switch {
			case it.Kind == Saw && it.N >= 0:
				if o := j.h.Events[it.N]; o.Stores() && o.To.All == e.To.All {
					before = max(before, o.First())
				}
			case it.Kind == Gapped && e.First() < it.At && before <= e.By():
				// After "rewound" comes all that is still held, and no other gap for
				// what had expired or been trimmed by then.
				expired := e.TTL > 0 && (it.Reason == "expired" || e.First()+e.TTL <= it.At)
				trimmed := it.Reason == "trimmed" || j.h.Small && it.Reason != "expired"
				if expired || trimmed {
					return true
				}
			}
		}
	}
	return false
}

// rewindsTold holds the bridge to telling a reader whose cursor was beyond the
// copy that the store went back, before it is given anything newer.
func (j *judge) rewindsTold(r *Reader) {
	if r.Transport == "plain" || r.Fresh {
		return
	}
	for _, w := range j.h.Rewinds {
		var beyond *Event
		told := false
	reading:
		for _, c := range r.Conns {
			for i := range c.Items {
				it := &c.Items[i]
				switch {
				case it.Kind == Gapped && it.At > w.At:
					told = true
				case it.Kind == Saw && it.N >= 0:
					e := j.h.Events[it.N]
					if !e.Stores() {
						continue
					}
					if it.At < w.At && e.First() > w.Lost {
						beyond = e
					}
					if e.First() > w.Done && beyond != nil && !told && !j.erasedIn(r.User, w.Kept, it.At) {
						j.add("rewound in silence", it.At, "%s had %s, which the older copy lacks, and was given %s without a gap", c.describe(), j.event(beyond), j.event(e))
						break reading
					}
				}
			}
		}
	}
}

// freshDevice holds a device without a cursor to all that nobody of its user has
// acked.
func (j *judge) freshDevice(r *Reader) {
	for _, c := range r.Conns {
		if !c.Whole || j.rewoundIn(0, c.Ended) || slices.ContainsFunc(c.Items, func(it Item) bool { return it.Kind == Gapped }) {
			continue
		}
		had := map[int]bool{}
		for i := range c.Items {
			had[c.Items[i].N] = true
		}
		for _, e := range j.h.ForUser[r.User] {
			if had[e.N] || !e.Stores() || e.TTL > 0 || len(e.Recalls) > 0 || e.By() >= c.Dialed || j.erasedIn(r.User, e.First(), c.Ended) || j.replaced(e, r.User) {
				continue
			}
			seen := j.seen[userEvent{r.User, e.N}]
			at := slices.IndexFunc(seen, func(s sighting) bool { return s.pos != (Position{}) && s.conn != c })
			if at < 0 {
				continue // its place is not known
			}
			acked := slices.ContainsFunc(j.h.Acks[r.User], func(a Ack) bool { return a.At < c.Ended && a.Pos.Mailbox >= seen[at].pos.Mailbox })
			if !acked {
				j.add("lost to a new device", c.Connected, "%s was not given %s, which nobody has acked", c.describe(), j.event(e))
			}
		}
	}
}
