package bridge

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
)

// Policy is what a token's rights claim allows. The zero Policy allows only to
// listen to one's own mailbox.
type Policy struct {
	Send   []string `json:"send"`   // user patterns; "*" alone also covers "to all"
	Groups []string `json:"groups"` // groups the user belongs to
	Admin  []string `json:"admin"`  // areas the holder may operate
}

// ErrPolicy: a rights claim that is not {"send":[…],"groups":[…],"admin":[…]}.
var ErrPolicy = errors.New(`the rights claim must be an object with lists of strings: {"send":["patient-*"]}`)

// ParsePolicy reads a rights claim; empty or null gives the zero Policy.
func ParsePolicy(claim []byte) (Policy, error) {
	var p Policy
	if len(claim) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(claim, &p); err != nil {
		return Policy{}, ErrPolicy
	}
	return p, nil
}

// MaySend reports whether the target is covered: each of its users by some
// pattern, everybody only by the lone "*".
func (p Policy) MaySend(t Target) bool {
	if t.All {
		return p.covers(func(pattern string) bool { return pattern == "*" })
	}
	users := t.Recipients()
	for _, u := range users {
		if !p.covers(func(pattern string) bool { return matchUser(pattern, u) }) {
			return false
		}
	}
	return len(users) > 0
}

func (p Policy) covers(match func(pattern string) bool) bool {
	for _, pattern := range p.Send {
		if match(pattern) {
			return true
		}
	}
	return false
}

// groupPrefix marks a pattern that names groups and so never matches a user.
const groupPrefix = "group:"

// matchUser matches a user id against a pattern in which each * stands for any
// run of characters, also none. Greedy with one point to go back to, so that a
// pattern of many stars cannot cost more than len(pattern)·len(user).
func matchUser(pattern, user string) bool {
	if strings.HasPrefix(pattern, groupPrefix) {
		return false
	}
	p, u := 0, 0
	star, mark := -1, 0
	for u < len(user) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, u
			p++
		case p < len(pattern) && pattern[p] == user[u]:
			p++
			u++
		case star >= 0:
			mark++
			p, u = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
