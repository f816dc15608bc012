package redis

import (
	"slices"
	"sync"

	"hookbridge/app/bridge"
)

// crowd is who is here: this machine's sessions, for which it speaks.
type crowd struct {
	mu     sync.RWMutex // guards what follows
	of     map[string][]bridge.Member
	joined map[string]struct{} // sessions that Redis knows of
	total  int                 // sessions in of
}

func newCrowd() *crowd {
	return &crowd{of: make(map[string][]bridge.Member), joined: make(map[string]struct{})}
}

// settled says that Redis knows of a session.
func (c *crowd) settled(session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined[session] = struct{}{}
}

// join makes a session known, or gives it another token; before is what it was.
func (c *crowd) join(m bridge.Member) (before bridge.Member, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.of[m.User]
	for i := range list {
		if list[i].Session == m.Session {
			before, list[i] = list[i], m
			return before, true
		}
	}
	c.of[m.User] = append(list, m)
	c.total++
	return bridge.Member{}, false
}

// back gives a session the token back that it had, unless it is gone by now.
func (c *crowd) back(before bridge.Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.of[before.User]
	for i := range list {
		if list[i].Session == before.Session {
			list[i] = before
		}
	}
}

func (c *crowd) leave(user, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.joined, session)
	before := len(c.of[user])
	list := slices.DeleteFunc(c.of[user], func(m bridge.Member) bool { return m.Session == session })
	c.total -= before - len(list)
	if len(list) == 0 {
		delete(c.of, user)
		return
	}
	c.of[user] = list
}

func (c *crowd) dismiss(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.of[user] {
		delete(c.joined, m.Session)
	}
	c.total -= len(c.of[user])
	delete(c.of, user)
}

func (c *crowd) has(user string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.of[user]) > 0
}

// count counts a user's sessions, or everybody's where user is empty, but for
// those excepted.
func (c *crowd) count(user string, except []string) (n int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	some := func(list []bridge.Member) {
		for i := range list {
			if !slices.Contains(except, list[i].Session) {
				n++
			}
		}
	}
	if user != "" {
		some(c.of[user])
		return n
	}
	if len(except) == 0 {
		return c.total
	}
	for _, list := range c.of {
		some(list)
	}
	return n
}

// all lists the sessions of each user.
func (c *crowd) all() map[string][]string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make(map[string][]string, len(c.of))
	for user, list := range c.of {
		for i := range list {
			out[user] = append(out[user], list[i].Session)
		}
	}
	return out
}

func (c *crowd) knows(user, session string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.ContainsFunc(c.of[user], func(m bridge.Member) bool { return m.Session == session })
}

// members lists the sessions that Redis knows of, by user.
func (c *crowd) members() map[string][]bridge.Member {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make(map[string][]bridge.Member, len(c.of))
	for user, list := range c.of {
		for _, m := range list {
			if _, ok := c.joined[m.Session]; ok {
				out[user] = append(out[user], m)
			}
		}
	}
	return out
}
