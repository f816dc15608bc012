package sqlite

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/storetest"
)

func TestDump(t *testing.T) {
	t.Parallel()
	t.Run("has the order of the contract, and nothing that expired", dumpOrder)
	t.Run("tells where a forgotten life began", dumpOfForgottenLife)
	t.Run("ends with the error of the function that takes entries", dumpError)
	t.Run("has what expires meanwhile", dumpDuringExpiry)
	t.Run("tells what is gone from a mailbox, and how", dumpOfGaps)
}

// dumpOf gives all entries, each through a file; and calls between before it takes one.
func dumpOf(t *testing.T, a *Archive, between func(e bridge.Entry)) (out []exported) {
	t.Helper()
	err := a.Dump(t.Context(), func(e bridge.Entry) error {
		between(e)
		x, err := throughFile(e)
		out = append(out, x)
		return err
	})
	if err != nil {
		t.Fatalf("dump: %v", err)
	}
	return out
}

func dumpAll(t *testing.T, o Options) []exported {
	t.Helper()
	a := openArchive(t, o)
	all := dumpOf(t, a, func(bridge.Entry) {})
	expect.NoError(t, a.Close())
	return all
}

func dumpOrder(t *testing.T) {
	t.Parallel()
	o, c := filled(t, false)
	all := dumpAll(t, o)
	if kinds := storetest.Exported(t, entries(all), c.Now()); kinds != 10 {
		t.Errorf("%d kinds", kinds)
	}
	a := openArchive(t, o)
	if n, err := a.Count(t.Context()); err != nil || n < int64(len(all)) {
		t.Errorf("it counts %d of %d, %v", n, len(all), err)
	}
}

// A store remembers so many lives. Where one that it has forgotten began in a mailbox
// still says how far the cursors of before are good.
func dumpOfForgottenLife(t *testing.T) {
	t.Parallel()
	o := Options{Dir: scratch(t)}
	var lives []string
	for i := range 4 {
		e := open(t, o)
		lives = append(lives, e.Life())
		mustAppend(t, e, message(fmt.Sprint("m", i), "u", 100, inAnHour()))
		if i == 2 { // as if there had been 10,000 since
			expect.NoError(t, e.writer.sql.conn.Exec("DELETE FROM lives WHERE no <= 2"))
		}
		expect.NoError(t, e.Close())
	}
	p := elsewhere(t, o)
	load(t, p, dumpAll(t, o), 10, epochOf(t, o))
	for _, o := range []Options{o, p} {
		e := open(t, o)
		for life, want := range map[string]uint64{"": 0, lives[2]: 3, lives[3]: 4} {
			if end, err := e.LifeEnd(t.Context(), "u", life); err != nil || end.Mailbox != want {
				t.Errorf("the life %q ended at %v, %v; not at %d", life, end, err, want)
			}
		}
		if _, err := e.LifeEnd(t.Context(), "u", lives[1]); !errors.Is(err, bridge.ErrRewound) {
			t.Errorf("a life that was forgotten: %v", err)
		}
		expect.NoError(t, e.Close())
	}
}

func dumpError(t *testing.T) {
	t.Parallel()
	o, _ := filled(t, false)
	a := openArchive(t, o)
	broken := errors.New("broken")
	for n := range len(dumpOf(t, a, func(bridge.Entry) {})) {
		left := n
		err := a.Dump(t.Context(), func(bridge.Entry) error {
			if left--; left < 0 {
				return broken
			}
			return nil
		})
		if !errors.Is(err, broken) {
			t.Fatalf("after %d entries: %v", n, err)
		}
	}
}

func dumpDuringExpiry(t *testing.T) {
	t.Parallel()
	o, c := filled(t, false)
	e := open(t, o)
	soon := message("soon", "dan", 10, c.Now().Add(time.Minute))
	mustAppend(t, e, message("last", "dan", 10, c.Now().Add(time.Hour)))
	place := mustAppend(t, e, soon).Recipients[0].Seq
	expect.NoError(t, e.Close())
	a := openArchive(t, o)
	all := dumpOf(t, a, func(e bridge.Entry) {
		if e.Message != nil && e.Message.ID == "last" {
			c.Advance(2 * time.Minute)
		}
	})
	expect.NoError(t, a.Close())
	p := elsewhere(t, o)
	load(t, p, all, 50, "carried")
	b := open(t, p)
	page, err := b.Read(t.Context(), "dan", b.Life(), bridge.Position{}, 100, 1<<20)
	if err != nil || page.Lost().Expired.Mailbox != place {
		t.Errorf("lost %+v, %v; place %d has expired", page.Lost(), err, place)
	}
}

func dumpOfGaps(t *testing.T) {
	t.Parallel()
	c := storetest.NewClock()
	o := Options{Dir: scratch(t), Now: c.Now, MailboxLimit: 4}
	e := open(t, o)
	ids := 0
	send := func(user string, ttls ...time.Duration) {
		for _, ttl := range ttls {
			ids++
			mustAppend(t, e, message(fmt.Sprint("m", ids), user, 10, c.Now().Add(ttl)))
		}
	}
	take := func(n ...int) { // of the last messages, counted from 1
		for _, n := range n {
			expect.NoError(t, e.Recall(t.Context(), fmt.Sprint("m", ids-4+n)))
		}
	}
	const s, l = time.Minute, time.Hour
	send("whole", l, l, l, l)
	send("expired", l, s, l, s)
	send("trimmed", l, l, l, l, l, l)
	send("both", l, l, l, s, l, l)
	send("recalled", l, l, l, l)
	take(1, 3, 4)
	send("mixed", s, l, l, l)
	take(2, 4)
	send("late", l, l, s, l)
	take(1, 2)
	send("empty", l, l, l, l)
	take(1, 2, 3, 4)
	send("erased", l, l, l)
	expect.NoError(t, e.Erase(t.Context(), "erased"))
	send("erased", l, l)
	send("forgotten", l)
	expect.NoError(t, e.Erase(t.Context(), "forgotten"))
	c.Advance(2 * s)
	expect.NoError(t, e.Close())
	want := map[string]bridge.MailboxEntry{
		"whole":    {Head: 4},
		"expired":  {Head: 4, Expired: 4},
		"trimmed":  {Head: 6, Trimmed: 2},
		"both":     {Head: 6, Trimmed: 2, Expired: 4},
		"recalled": {Head: 4, Removed: [][2]uint64{{1, 1}, {3, 4}}},
		"mixed":    {Head: 4, Expired: 1, Removed: [][2]uint64{{2, 2}, {4, 4}}},
		"late":     {Head: 4, Expired: 3},
		"empty":    {Head: 4, Removed: [][2]uint64{{1, 4}}},
		"erased":   {Head: 5, Trimmed: 3, Acked: bridge.Position{Mailbox: 3}},
	}
	hashes := map[string]uint64{string(bridge.MailboxHash("erased")): 3, string(bridge.MailboxHash("forgotten")): 1}
	for _, d := range dumpAll(t, o) {
		m := d.entry.Mailbox
		switch {
		case m == nil:
		case m.Hash != nil:
			if m.Head != hashes[string(m.Hash)] {
				t.Errorf("%s", d.line)
			}
			delete(hashes, string(m.Hash))
		default:
			w := want[m.User]
			m.Lives = nil // conformance compares what they mean
			if w.User = m.User; !reflect.DeepEqual(*m, w) {
				t.Errorf("%s: got %+v, want %+v", m.User, *m, w)
			}
			delete(want, m.User)
		}
	}
	if len(want)+len(hashes) > 0 {
		t.Errorf("not there: %+v, %x", want, hashes)
	}
}
