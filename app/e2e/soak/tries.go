package soak

import (
	"slices"
	"time"
)

// settlingTry is how long a bridge may take, where something is broken, from the answer
// to a callback until the store knows of it.
const settlingTry = 6 * time.Second

// tries holds the tries of one webhook-id to the promise that only one machine at a time
// makes them, and to their end once the backend has taken it.
func (j *judge) tries() {
	of := map[string][]*Callback{}
	for _, c := range j.h.Callbacks {
		of[c.ID] = append(of[c.ID], c)
	}
	for _, tries := range of {
		for i, c := range tries[1:] {
			before := tries[i]
			// A machine that stood still may go on with a try after its lease has ended; a
			// store that went back has forgotten the lease, or that the callback was taken.
			if before.Ended > c.At && !j.rewoundIn(before.At-trying, c.At) && !j.stoodStillIn(before.At-settling, c.At) {
				j.add("callback tried twice at once", c.At, "%s came while a try that began at %s was under way", c, short(before.At))
				continue
			}
			if before.Taken && !j.rewoundIn(before.At-trying, c.At) && !j.troubleIn(before.At-time.Second, before.At+settlingTry) {
				j.add("callback tried again", c.At, "%s was taken at %s", c, short(before.At))
			}
		}
	}
}

// stoodStillIn tells whether a process was stopped.
func (j *judge) stoodStillIn(from, to Moment) bool {
	return slices.ContainsFunc(j.h.Troubles, func(t Trouble) bool {
		return (t.Kind == "stop" || t.Kind == "stoplong") && t.End >= from && t.Start <= to
	})
}

// cause names what a callback tells of; empty for those of which each tells of
// something new.
func (c *Callback) cause() (k struct {
	kind, user, event string
}) {
	if c.OfPresence() {
		return k
	}
	k.kind, k.user, k.event = c.Type, c.User, c.Event
	return k
}
