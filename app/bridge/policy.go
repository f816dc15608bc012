package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hookbridge/app/wire"
)

// Policy is what a token's rights claim allows. The zero Policy allows only to
// listen to one's own mailbox.
type Policy struct {
	Send   []string `json:"send"`   // user patterns; "*" alone also covers "to all"
	Groups []string `json:"groups"` // groups the user belongs to
	Admin  []string `json:"admin"`  // areas the holder may operate
	// Backend holds patterns of the types of events that the user may send to a backend
	// and ask it with.
	Backend []string `json:"backend"`
}

// ErrPolicy: a rights claim that is not {"send":[…],"groups":[…],"admin":[…],"backend":[…]}.
var ErrPolicy = errors.New(`the rights claim must be an object with lists of strings: {"send":["patient-*"]}`)

// ParsePolicy reads a rights claim; empty or null gives the zero Policy.
func ParsePolicy(claim []byte) (Policy, error) {
	var p Policy
	if len(claim) == 0 || string(claim) == "null" {
		return p, nil
	}
	if err := wire.Decode(claim, &p); err != nil {
		return Policy{}, ErrPolicy
	}
	if len(p.Groups) > maxTokenGroups {
		return Policy{}, fmt.Errorf("%w; it names %d groups, %d are allowed", ErrPolicy, len(p.Groups), maxTokenGroups)
	}
	for _, g := range p.Groups {
		if CheckUserID(g) != nil {
			return Policy{}, fmt.Errorf("%w; a group's name has 1 to 128 characters and no control characters", ErrPolicy)
		}
	}
	return p, nil
}

// maxTokenGroups bounds what one connect may write.
const maxTokenGroups = 256

// MaySend reports whether the target is covered: each of its users by some
// pattern, a group by a pattern that names groups, everybody only by the lone
// "*", which covers groups too.
func (p Policy) MaySend(t Target) bool { return covers(p.Send, t) }

// MaySendToBackend reports whether an event of this type may go to a backend.
func (p Policy) MaySendToBackend(eventType string) bool {
	return slices.ContainsFunc(p.Backend, func(pattern string) bool { return match(pattern, eventType) })
}

// Operates reports whether the holder may operate an area.
func (p Policy) Operates(area string) bool { return slices.Contains(p.Admin, area) }

// Sender is a backend's key: its name, and what it may send to whom.
type Sender struct {
	Name  string
	Types []string // patterns of event types; nil: any
	To    []string // patterns as in Policy.Send; nil: anybody
	// Apart gives the sender ids of its own: its event's id is the name, a dot and
	// the webhook-id. Two senders that are apart never meet in an id.
	Apart bool
}

// EventID is the id of the event that the sender reports under an id of its own.
func (s Sender) EventID(own string) string {
	if !s.Apart || own == "" {
		return own
	}
	return s.Name + "." + own
}

// MaySend reports whether an event of this type may go to the target.
func (s Sender) MaySend(eventType string, t Target) bool {
	if s.Types != nil && !slices.ContainsFunc(s.Types, func(p string) bool { return match(p, eventType) }) {
		return false
	}
	return s.To == nil || covers(s.To, t)
}

func covers(patterns []string, t Target) bool {
	some := func(f func(pattern string) bool) bool { return slices.ContainsFunc(patterns, f) }
	if t.All || t.Group != "" {
		return some(func(p string) bool {
			if p == everybody {
				return true
			}
			group, ok := strings.CutPrefix(p, groupPrefix)
			return ok && !t.All && match(group, t.Group)
		})
	}
	users := t.Recipients()
	for _, u := range users {
		if !some(func(p string) bool { return matchUser(p, u) }) {
			return false
		}
	}
	return len(users) > 0
}

// everybody is the one pattern that covers a message to all.
const everybody = "*"

// groupPrefix marks a pattern that names groups and so never matches a user.
const groupPrefix = "group:"

func matchUser(pattern, user string) bool {
	return !strings.HasPrefix(pattern, groupPrefix) && match(pattern, user)
}

// match matches a name against a pattern in which each * stands for any
// run of characters, also none. Greedy with one point to go back to, so that a
// pattern of many stars cannot cost more than len(pattern)·len(name).
func match(pattern, name string) bool {
	p, n := 0, 0
	star, mark := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
