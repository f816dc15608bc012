package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// Cast is who takes part: users, their devices and groups.
type Cast struct {
	b       *Bridges
	calm    atomic.Bool // devices stay connected from now on
	users   []string
	erased  []string // those who are erased now and then
	groups  []string
	devices []*Device // of all users who are there from the beginning
	away    []*Device // of users who come at the end
	running sync.WaitGroup
	ctx     context.Context // ends with Stop
	stop    context.CancelFunc
}

// NewCast makes users of every kind.
func NewCast(b *Bridges, seed uint64) *Cast {
	c := &Cast{b: b, groups: []string{"g0", "g1"}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	add := func(user string, acks int, transports ...string) {
		c.users = append(c.users, user)
		for i, transport := range transports {
			fresh := transport == "fresh"
			if fresh {
				transport = "websocket"
			}
			r := b.history.NewReader(Reader{Name: fmt.Sprintf("%s/%d", user, i), User: user, Transport: transport, Fresh: fresh, Sole: len(transports) == 1})
			n := acks
			if fresh {
				n = 0
			}
			c.devices = append(c.devices, NewDevice(b, r, n, &c.calm, seed^uint64(len(c.devices))<<8))
		}
	}
	add("u0", 1, "websocket", "websocket")
	add("u1", 5, "websocket", "sse")
	add("u2", 3, "websocket", "poll")
	add("u3", 2, "sse")
	add("u4", 4, "poll")
	add("u5", 200, "websocket", "fresh") // acks late, so that a new device finds something
	add("u6", 100, "sse", "fresh")
	add("u7", 5, "websocket", "sse")
	add("u8", 2, "websocket", "poll")
	add("p0", 0, "plain")
	add("p1", 0, "plain")
	for i, transport := range []string{"websocket", "sse", "poll"} { // these come and go
		add(fmt.Sprintf("u%d", 9+i), 1, transport)
		c.devices[len(c.devices)-1].goes = true
	}
	c.erased = []string{"u7", "u8"}
	for _, user := range []string{"away0", "away1"} {
		r := b.history.NewReader(Reader{Name: user + "/0", User: user, Transport: "websocket", Sole: true})
		c.away = append(c.away, NewDevice(b, r, 0, &c.calm, seed^uint64(len(r.Name))))
		c.users = append(c.users, user)
	}
	return c
}

// Run lets the devices connect.
func (c *Cast) Run() {
	for _, d := range c.devices {
		c.running.Go(func() { d.Run(c.ctx) })
	}
}

// Return lets those come who were away all the time.
func (c *Cast) Return() {
	for _, d := range c.away {
		c.running.Go(func() { d.Run(c.ctx) })
	}
}

// Stop ends all devices.
func (c *Cast) Stop() {
	c.stop()
	c.running.Wait()
}

// user picks one; those who are away get little, so that their mailboxes do not fill.
func (c *Cast) user(rnd *rand.Rand) string {
	u := c.users[rnd.IntN(len(c.users))]
	if len(u) > 4 && rnd.IntN(4) != 0 {
		return c.users[rnd.IntN(len(c.users)-len(c.away))]
	}
	return u
}

// device picks one that can send; nil where that one is not connected.
func (c *Cast) device(rnd *rand.Rand) *Device {
	d := c.devices[rnd.IntN(len(c.devices))]
	if d.socket() == nil {
		return nil
	}
	return d
}
