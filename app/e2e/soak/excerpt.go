package soak

import (
	"fmt"
	"strings"
	"time"
)

// around tells what a reader went through about a moment: its connections, and
// the frames next to it.
func (j *judge) around(r *Reader, at Moment) string {
	const before, after = 3, 8
	var lines []string
	shown := 0
	for n, c := range r.Conns {
		if c.Ended < at-2*time.Second || shown > after {
			continue
		}
		lines = append(lines, fmt.Sprintf("  connection %d at process %d, %s to %s, closed with %d, after %q", n, c.Proc, c.Dialed.Round(time.Millisecond), short(c.Ended), c.Code, c.After))
		first := 0
		for first < len(c.Items) && c.Items[first].At < at {
			first++
		}
		for i := max(0, first-before); i < len(c.Items) && shown <= after; i++ {
			if i >= first {
				shown++
			}
			lines = append(lines, "    "+j.item(&c.Items[i]))
		}
		if len(lines) > 60 {
			break
		}
	}
	return "\n" + strings.Join(lines, "\n")
}

func (j *judge) item(it *Item) string {
	switch {
	case it.Kind == Gapped:
		return fmt.Sprintf("%s gap %s from %s to %s", it.At.Round(time.Millisecond), it.Reason, it.After, it.Pos)
	case it.Kind == Recalled || it.N < 0:
		return fmt.Sprintf("%s recalled, or unknown", it.At.Round(time.Millisecond))
	}
	e := j.h.Events[it.N]
	return fmt.Sprintf("%s %s event %d, ttl %s, all %v, taken from %s to %s", it.At.Round(time.Millisecond), it.Pos, it.N, e.TTL, e.To.All, short(e.First()), short(e.By()))
}

func (p Position) String() string {
	return fmt.Sprintf("%s.%d.%d.%s", p.Tag, p.Mailbox, p.Broadcast, p.Life)
}

func short(m Moment) string {
	if m == Never {
		return "never"
	}
	return m.Round(time.Millisecond).String()
}

// standing tells how the user stood to an event's group.
func (j *judge) standing(e *Event, user string) string {
	text := ""
	show := func(what string, o *Op) {
		text += fmt.Sprintf("\n    %s from %s to %s", what, short(o.Start), short(o.End))
	}
	for _, o := range j.h.Memberships[Member{user, e.To.Group}] {
		show(fmt.Sprintf("member %v", o.Add), o)
	}
	for _, o := range j.h.Erasures {
		if o.User == user {
			show("erased", o)
		}
	}
	for _, t := range j.h.Troubles {
		if t.End+10*time.Second > e.First() && t.Start < e.First() {
			text += fmt.Sprintf("\n    %s from %s to %s", t.Kind, short(t.Start), short(t.End))
		}
	}
	return text
}

// dealings tells what is known of an event and one of its recipients: where the event was
// seen, the user's acks about a moment, what operators saw, and each try of a callback.
func (j *judge) dealings(e *Event, user string, at Moment) string {
	const about = 3 * time.Second
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, "    "+fmt.Sprintf(format, args...)) }
	for _, s := range j.seen[userEvent{user, e.N}] {
		add("%s seen at %s by %s", short(s.at), s.pos, s.conn.describe())
	}
	for _, k := range j.h.Acks[user] {
		if k.At > at-about && k.At < at+about {
			add("%s acked %s, answered at %s", short(k.At), k.Pos, short(k.Answered))
		}
	}
	for _, l := range j.h.Looks {
		if l.N == e.N && l.User == user {
			add("%s an operator saw that it was %s", short(l.At), l.Status)
		}
	}
	for _, c := range j.h.Callbacks {
		if c.Event == e.ID && c.User == user {
			add("%s the backend had %s, and took it: %v", short(c.At), c, c.Taken)
		}
	}
	return "\n" + strings.Join(lines, "\n") + j.standing(e, user)
}
