package sqlite

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// erasedFor is how long it is known when a user was erased: longer than any call
// that had begun before can still be on its way.
const erasedFor = 10 * time.Minute

// crowd is who is there: all of them in this process. The writer changes it when
// what it stands for is in the file, so that a call that fails changes nothing.
type crowd struct {
	mu     sync.Mutex // guards what follows, and what joining says of it
	of     map[string][]present
	erased map[string]time.Time // when users were erased, for erasedFor
}

// present is a session that is there.
type present struct {
	bridge.Member
	leaving bool // it is not, but its trail is on its way into the file
}

func newCrowd() *crowd {
	return &crowd{of: make(map[string][]present), erased: make(map[string]time.Time)}
}

func (c *crowd) index(user, session string) int {
	return slices.IndexFunc(c.of[user], func(p present) bool { return p.Session == session })
}

// settle makes the session of a join present, or gives it the token it has now;
// unless its caller has given up, who will not make it leave.
func (c *crowd) settle(j *joining) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := j.member
	i := c.index(m.User, m.Session)
	switch {
	case i >= 0:
		c.of[m.User][i] = present{Member: m}
	case !j.abandoned:
		c.of[m.User] = append(c.of[m.User], present{Member: m})
	default:
		return
	}
	j.joined = i < 0
}

// abandon is for a caller that waits no longer for its join: a session that was
// not there before is not going to be.
func (c *crowd) abandon(j *joining) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j.abandoned = true
	if j.joined {
		c.remove(j.member.User, j.member.Session)
	}
}

// leave takes a session out of what is there, until gone is called; false for one
// that is not there.
func (c *crowd) leave(m bridge.Member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(m.User, m.Session)
	if i < 0 {
		return false
	}
	c.of[m.User][i].leaving = true
	return true
}

// gone forgets a session that leaves; false where an erasure has ended it.
func (c *crowd) gone(user, session string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(user, session)
}

func (c *crowd) remove(user, session string) bool {
	i := c.index(user, session)
	if i < 0 {
		return false
	}
	if len(c.of[user]) == 1 {
		delete(c.of, user)
	} else {
		c.of[user] = slices.Delete(c.of[user], i, i+1)
	}
	return true
}

// dismiss ends all sessions of a user who is erased, and those that began before
// and are about to join.
func (c *crowd) dismiss(user string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, user)
	for u, was := range c.erased {
		if at.Sub(was) > erasedFor {
			delete(c.erased, u)
		}
	}
	c.erased[user] = at
}

// erasedAfter reports whether a user was erased after a time.
func (c *crowd) erasedAfter(user string, t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.erased[user]
	return ok && t.Before(at)
}

// list is a user's sessions, oldest first.
func (c *crowd) list(user string) []bridge.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []bridge.Member
	for _, p := range c.of[user] {
		if !p.leaving {
			list = append(list, p.Member)
		}
	}
	slices.SortStableFunc(list, func(a, b bridge.Member) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Session, b.Session))
	})
	return list
}

func (c *crowd) count(user string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.of[user] {
		if !p.leaving {
			n++
		}
	}
	return n
}
