package sqlite

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

func TestResidue(t *testing.T) {
	t.Parallel()
	t.Run("of what was erased is in no page's free space", residueInFreeSpace)
}

// crowded brings messages of two kinds onto the same pages, in an order and of
// sizes that have SQLite move them between pages and use pages again.
type crowded struct {
	*testing.T
	store  *Store
	clock  *shifted
	rnd    *rand.Rand
	ids    []string // of what is to go
	serial int
}

func (c *crowded) step(user, word string) {
	c.serial++
	size := c.rnd.IntN(400)
	switch c.rnd.IntN(10) {
	case 0:
		size = c.rnd.IntN(4_000)
	case 1:
		size = c.rnd.IntN(30_000)
	}
	id := fmt.Sprintf("m%x-%d", c.rnd.Uint64(), c.serial)
	to := bridge.Target{User: user}
	if user == erasedUser && c.rnd.IntN(6) == 0 {
		to = bridge.Target{Users: []string{user, "canary-too"}}
	}
	m := spelling(id, word, size, c.clock.now().Add(time.Duration(1+c.rnd.IntN(100))*time.Minute), to)
	if c.rnd.IntN(8) == 0 {
		m.Topic = "t"
	}
	mustAppend(c.T, c.store, m)
	if c.rnd.IntN(30) == 0 {
		c.visit(user, word)
	}
	if c.rnd.IntN(15) == 0 {
		c.clock.advance(time.Duration(c.rnd.IntN(5)) * time.Minute)
	}
	if user != erasedUser {
		return
	}
	c.ids = append(c.ids, id)
	if c.rnd.IntN(5) == 0 {
		expect.NoError(c.T, c.store.Recall(c.Context(), c.ids[c.rnd.IntN(len(c.ids))]))
		expect.NoError(c.T, c.store.Seen(c.Context(), user, "ses_"+word, id, c.clock.now()))
	}
}

// visit leaves a trail of some length.
func (c *crowded) visit(user, word string) {
	m := bridge.Member{User: user, Session: fmt.Sprint("s", c.serial), Since: c.clock.now(),
		Groups: []string{word + fmt.Sprint(c.serial%3)}, Until: c.clock.now().Add(time.Hour)}
	if _, err := c.store.Enter(c.Context(), m, ""); err != nil {
		c.Fatal(err)
	}
	expect.NoError(c.T, c.store.Exit(c.Context(), bridge.DeliveryLog{Member: m, Ended: c.clock.now(), Sent: make([]bridge.Mark, 1+c.rnd.IntN(100))}))
}

// Rows that SQLite moved from
// page to page, and pages that it used again, leave copies that are in no row.
func residueInFreeSpace(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("order ", seed), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && seed > 0 {
				t.Skip("one order will do")
			}
			dir := scratch(t)
			c := &crowded{T: t, clock: &shifted{}, rnd: rand.New(rand.NewPCG(seed, 1))}
			c.store = open(t, Options{Dir: dir, Now: c.clock.now, MailboxLimit: 50 + c.rnd.IntN(200)})
			for range 1_500 {
				if c.rnd.IntN(2) == 0 {
					c.step(erasedUser, "canary")
				} else {
					c.step(fmt.Sprint("user", c.rnd.IntN(30)), "other")
				}
				if c.rnd.IntN(100) == 0 {
					expect.NoError(t, c.store.checkpoints.truncate())
				}
			}
			if len(where(files(t, dir), "canary")) == 0 {
				t.Fatal("nothing to erase is there")
			}
			expect.NoError(t, c.store.Erase(t.Context(), "canary-too"))
			expect.NoError(t, c.store.Erase(t.Context(), erasedUser))
			check := func(when string) {
				t.Helper()
				if found := where(files(t, dir), "canary"); len(found) > 0 {
					t.Errorf("%s there are copies in %v", when, found)
				}
				if bad := number(t, c.store, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"); bad > 0 {
					t.Errorf("%s the file has %d faults", when, bad)
				}
			}
			check("at once")
			// The writer's own copies of pages must not bring it back.
			for i := range 300 {
				c.step(fmt.Sprint("user", i%30), "other")
			}
			check("after others' messages")
		})
	}
}
