package soak

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

const (
	// debounce is how long the last session of a user must be gone before backends are told.
	debounce = 10 * time.Second
	// noticing is how far a client and a bridge may disagree about when a connection began
	// or ended, where nothing is broken.
	noticing = 2 * time.Second
	// comingBound is when backends must have been told, at the latest, of a user who came,
	// and joining how long nothing may be broken for that.
	comingBound = 15 * time.Second
	joining     = 5 * time.Second
	// goingBound is the same of a user who left, and goingBoundInTrouble where a machine
	// may have died with the user's session: then others look every five minutes.
	goingBound          = debounce + 8*time.Second
	goingBoundInTrouble = 5*time.Minute + 2*settling
)

// span is a time in which a user was connected, without a break that is worth telling.
type span struct{ from, to Moment }

// presence holds user.online and user.offline to who was there. told are those
// that the backend took, each once, by user.
func (j *judge) presence(told map[string][]*Callback) {
	users := map[string]bool{}
	for u := range j.conns {
		users[u] = true
	}
	for u := range told {
		users[u] = true
	}
	for u := range users {
		line := told[u]
		slices.SortFunc(line, func(a, b *Callback) int { return cmp.Compare(a.Caused, b.Caused) })
		there := j.spans(u)
		j.alternates(u, line)
		for _, c := range line {
			if c.Type == "user.online" {
				j.cameThen(c)
			} else {
				j.wasGoneThen(c, there)
			}
		}
		j.toldOfComing(u, line, there)
		j.toldOfGoing(u, line)
	}
}

// spans are the times in which clients of the user were certainly connected: from the
// first that a connection heard to the last. Breaks of less than half the debounce do
// not count.
func (j *judge) spans(user string) (out []span) {
	for _, c := range j.conns[user] {
		if c.Connected != 0 {
			out = append(out, span{c.Connected, max(c.Connected, c.Heard)})
		}
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	merged := out[:0]
	for _, s := range out {
		if n := len(merged); n > 0 && s.from-merged[n-1].to < debounce/2 {
			merged[n-1].to = max(merged[n-1].to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// alternates holds a user's callbacks to begin with user.online, and to come in turns.
// Each carries the time at which it was begun, and not that of its commit: of two that
// were made at the same time, it puts in order those that stand the other way round.
func (j *judge) alternates(user string, line []*Callback) {
	for i := range line {
		c, before := line[i], "user.offline" // as it was in the beginning
		var since Moment
		if i > 0 {
			before, since = line[i-1].Type, line[i-1].Caused
		}
		if c.Type != before || j.forgotten(user, since, c.Caused) {
			continue
		}
		near := noticing
		if j.troubleIn(c.Caused-settling, c.Caused) {
			near = 30 * time.Second
		}
		if i+1 < len(line) && line[i+1].Type != c.Type && line[i+1].Caused < c.Caused+near {
			line[i], line[i+1] = line[i+1], c
			continue
		}
		j.add("callbacks do not alternate", c.Caused, "%s is told of twice: %s after %s", user, c, since.Round(time.Millisecond))
	}
}

// forgotten tells whether the store may have forgotten between two moments what
// backends were told of the user.
func (j *judge) forgotten(user string, from, to Moment) bool {
	return j.rewoundIn(from, to) || j.erasedIn(user, from, to)
}

// cameThen holds user.online to a connection of that time.
func (j *judge) cameThen(c *Callback) {
	late := 5 * time.Second // after which a bridge knows that a client hung up
	if j.troubleIn(c.Caused-settling, c.Caused) {
		late = settling
	}
	if !slices.ContainsFunc(j.conns[c.User], func(o *Conn) bool { return o.Dialed <= c.Caused+clockSlack && !o.over(c.Caused-late) }) {
		j.forNothing(c, nil, "no client of "+c.User+" was there")
	}
}

// wasGoneThen holds user.offline to nobody having been there for as long as it waits,
// and to the time at which the last client left.
func (j *judge) wasGoneThen(c *Callback, there []span) {
	if j.rewoundIn(c.Caused-settling, c.Caused) || !j.h.Exact && j.longTroubleIn(c.Caused-settling, c.Caused) {
		return // machines may not have known of each other's sessions
	}
	for _, s := range there {
		if s.from <= c.Caused-noticing && s.to >= c.Caused-debounce+noticing {
			j.forNothing(c, nil, c.User+" was there from "+s.from.Round(time.Millisecond).String()+" to "+s.to.Round(time.Millisecond).String())
			return
		}
	}
	if j.troubleIn(c.Caused-debounce-settling, c.Caused) || j.erasedIn(c.User, 0, c.Caused) {
		return
	}
	var heard, ended Moment
	for _, o := range j.conns[c.User] {
		if o.Dialed <= c.Caused-noticing {
			heard, ended = max(heard, o.Heard), max(ended, o.Ended)
		}
	}
	if c.LastSeen < heard-noticing || c.LastSeen > ended+noticing || c.LastSeen+debounce > c.Caused+clockSlack {
		j.add("callback altered", c.Caused, "%s was last there between %s and %s, and not at %s: %s", c.User, short(heard), short(ended), short(c.LastSeen), c)
	}
}

// longTroubleIn tells whether a fault lasted for so long that other machines may have
// taken one for dead that was not.
func (j *judge) longTroubleIn(from, to Moment) bool {
	return slices.ContainsFunc(j.h.Troubles, func(t Trouble) bool {
		dead := strings.HasPrefix(t.Kind, "kill") || t.Kind == "term"
		return t.End >= from && t.Start <= to && t.End-t.Start > 5*time.Second && !dead
	})
}

// lastTold is what backends were last told of a user by a moment; nil for nothing.
func lastTold(line []*Callback, by Moment) (last *Callback) {
	for _, c := range line {
		if c.Caused <= by {
			last = c
		}
	}
	return last
}

// causedAt is when a callback was caused; 0 without one.
func (c *Callback) causedAt() Moment {
	if c == nil {
		return 0
	}
	return c.Caused
}

// toldOfComing holds the beginning of each stay, and each end of a connection, to its user
// having been told of as there.
func (j *judge) toldOfComing(user string, line []*Callback, there []span) {
	if !j.h.Told {
		return
	}
	for _, s := range there {
		last := lastTold(line, s.from+comingBound)
		missed := last == nil || last.Type == "user.offline" && last.Caused < s.from-noticing
		if missed && !j.troubleIn(s.from-noticing, s.from+joining) &&
			!j.forgotten(user, last.causedAt(), s.from+joining) && !j.refusedAndForgotten(user, s) && !j.waitedAndForgotten(s) && s.from+comingBound < j.h.Now() {
			j.add("callback lost", s.from, "%s came, and the backend did not hear of it; the last that it heard: %v", user, last)
			return
		}
		for _, c := range j.conns[user] {
			at := c.Heard
			if at < s.from+comingBound || at > s.to || j.troubleIn(at-comingBound, at) {
				continue
			}
			last := lastTold(line, at)
			if last != nil && last.Type == "user.online" || j.forgotten(user, last.causedAt(), at) || j.refusedAndForgotten(user, s) || j.waitedAndForgotten(s) {
				continue
			}
			j.add("callback lost", at, "%s was there from %s, and the backend did not hear of it; the last that it heard: %v", user, s.from.Round(time.Millisecond), last)
			return // the rest of it says the same
		}
	}
}

// refusedAndForgotten tells whether the backend refused to hear of a user's coming, and the
// store was put back to before it while the callback waited for its next try.
func (j *judge) refusedAndForgotten(user string, s span) bool {
	return slices.ContainsFunc(j.h.Callbacks, func(c *Callback) bool {
		return c.Type == "user.online" && c.User == user && !c.Taken && c.Caused >= s.from-noticing && c.Caused <= s.from+comingBound &&
			slices.ContainsFunc(j.h.Rewinds, func(w Rewind) bool { return w.Kept <= c.Caused+joining && w.Done >= c.At })
	})
}

// waitedAndForgotten tells whether the backend was given nothing after a user had come, until
// the store was put back to before that: it owed as many answers as are waited for at a time.
func (j *judge) waitedAndForgotten(s span) bool {
	return slices.ContainsFunc(j.h.Rewinds, func(w Rewind) bool {
		return w.Kept <= s.from+noticing && w.At > s.from+joining && w.At <= s.from+comingBound &&
			!slices.ContainsFunc(j.h.Callbacks, func(c *Callback) bool { return c.At > s.from+noticing && c.At < w.At })
	})
}

// toldOfGoing holds each time that a user was away for long to having been told of.
func (j *judge) toldOfGoing(user string, line []*Callback) {
	var left Moment // when the last of the connections so far ended
	away := func(until Moment) {
		bound := goingBound
		if j.troubleIn(left-settling, left+goingBound) {
			bound = goingBoundInTrouble
		}
		last := lastTold(line, until)
		if last == nil || last.Type != "user.online" || until-left < bound || j.forgotten(user, last.Caused, until) {
			return
		}
		j.add("callback lost", until, "%s was away from %s to %s, and the backend did not hear of it; the last that it heard: %s", user, short(left), short(until), last)
	}
	for _, c := range j.conns[user] {
		if left != 0 && c.Dialed > left {
			away(c.Dialed)
		}
		left = max(left, c.Ended)
	}
	if left != Never {
		away(j.h.Now())
	}
}

// ThoughtThere are the users of whom the backend was told that they are there, and not
// that they have left.
func (h *History) ThoughtThere() (users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := map[string]*Callback{}
	for _, c := range h.Callbacks {
		if c.OfPresence() && c.Taken && c.Caused >= last[c.User].causedAt() {
			last[c.User] = c
		}
	}
	for user, c := range last {
		if c.Type == "user.online" {
			users = append(users, user)
		}
	}
	return users
}

// OfPresence tells whether the callback says that a user has come or gone.
func (c *Callback) OfPresence() bool { return c.Type == "user.online" || c.Type == "user.offline" }
