package sqlite

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/storetest"
)

// dumpFrom gives what there is from a place on, up to a number of entries.
func dumpFrom(t *testing.T, a *Archive, after string, most int) (out []carried) {
	t.Helper()
	enough := errors.New("enough")
	err := a.Dump(t.Context(), after, func(e bridge.Entry, place string) error {
		if len(out) == most {
			return enough
		}
		c, err := carry(e, place)
		out = append(out, c)
		return err
	})
	if err != nil && !errors.Is(err, enough) {
		t.Fatalf("dump: %v", err)
	}
	return out
}

func dumpAll(t *testing.T, o Options) []carried {
	t.Helper()
	a := openArchive(t, o)
	all := dumpFrom(t, a, "", -1)
	mustDo(t, a.Close())
	return all
}

func TestEntriesComeInTheOrderOfTheContractAndNoneThatExpired(t *testing.T) {
	o, c := filled(t, false)
	now := c.Now().UnixNano()
	rank, mailbox, known := 0, "", map[string]bool{}
	var seq uint64
	kinds := map[int]int{}
	for _, e := range dumpAll(t, o) {
		r := 0
		switch e := e.entry; {
		case e.Event != nil:
			known[e.Event.ID] = true
		case e.Mailbox != nil:
			r, mailbox, seq = 1, e.Mailbox.User, 0
		case e.Message != nil:
			r = 1
			m := e.Message
			if m.User != mailbox || m.Seq <= seq || m.Expires <= now || !known[m.ID] || !strings.Contains(string(m.Event), m.ID) {
				t.Errorf("%+v in the mailbox of %q after %d, at %d", m, mailbox, seq, now)
			}
			seq = m.Seq
		case e.Membership != nil:
			r = 2
		case e.Revocation != nil:
			r = 3
		case e.Trail != nil:
			r = 4
		case e.Sight != nil:
			r = 5
		}
		if r < rank {
			t.Errorf("%s comes too late", e.line)
		}
		rank = r
		kinds[r]++
	}
	for r := range 6 {
		if kinds[r] == 0 {
			t.Errorf("none of kind %d", r)
		}
	}
	a := openArchive(t, o)
	if n, err := a.Count(t.Context()); err != nil || n < int64(len(dumpFrom(t, a, "", -1))) {
		t.Errorf("it counts %d, %v", n, err)
	}
}

// A store remembers so many lives. Where one that it has forgotten began in a mailbox
// still says how far the cursors of before are good.
func TestWhereAForgottenLifeBeganIsCarried(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	var lives []string
	for i := range 4 {
		e := open(t, o)
		lives = append(lives, e.Life())
		mustAppend(t, e, message(fmt.Sprint("m", i), "u", 100, inAnHour()))
		if i == 2 { // as if there had been 10,000 since
			mustDo(t, e.writer.store.conn.Exec("DELETE FROM lives WHERE no <= 2"))
		}
		mustDo(t, e.Close())
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
		mustDo(t, e.Close())
	}
}

func TestADumpThatBrokeOffAnywhereGoesOnAndLeavesNothingOut(t *testing.T) {
	o, _ := filled(t, false)
	a := openArchive(t, o)
	all := dumpFrom(t, a, "", -1)
	if len(all) < 200 {
		t.Fatalf("only %d entries", len(all))
	}
	for k := range all {
		rest := dumpFrom(t, a, all[k].place, -1)
		// Where it goes on within a mailbox, that mailbox's own entry comes again.
		if again := len(rest) - (len(all) - k - 1); again == 1 && rest[0].entry.Mailbox != nil {
			rest = rest[1:]
		}
		if !slices.Equal(lines(rest), lines(all[k+1:])) {
			t.Fatalf("after %s (%s) come\n%s", all[k].line, all[k].place, strings.Join(lines(rest), "\n"))
		}
	}
	for _, place := range []string{"mail", `["mail"]`, `["moon","1"]`, `["event","x"]`, `["hash","x"]`} {
		if err := a.Dump(t.Context(), place, func(bridge.Entry, string) error { return nil }); err == nil {
			t.Errorf("%q passes for a place", place)
		}
	}
	broken := errors.New("broken")
	if err := a.Dump(t.Context(), "", func(bridge.Entry, string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the taker's error comes back as %v", err)
	}
}

func TestWhatExpiresWhileADumpIsInterruptedIsStillAnnounced(t *testing.T) {
	o, c := filled(t, false)
	e := open(t, o)
	soon := message("soon", "dan", 10, c.Now().Add(time.Minute))
	last := message("last", "dan", 10, c.Now().Add(time.Hour))
	mustAppend(t, e, last)
	place := mustAppend(t, e, soon).Recipients[0].Seq
	mustDo(t, e.Close())
	a := openArchive(t, o)
	all := dumpFrom(t, a, "", -1)
	at := slices.IndexFunc(all, func(c carried) bool { return c.entry.Message != nil && c.entry.Message.ID == "last" })
	c.Advance(2 * time.Minute)
	rest := dumpFrom(t, a, all[at].place, -1)
	mustDo(t, a.Close())
	p := elsewhere(t, o)
	load(t, p, append(all[:at+1:at+1], rest...), 50, "carried")
	b := open(t, p)
	page, err := b.Read(t.Context(), "dan", b.Life(), bridge.Position{}, 100, 1<<20)
	if err != nil || page.Lost().Expired.Mailbox != place {
		t.Errorf("lost %+v, %v; place %d has expired", page.Lost(), err, place)
	}
}

func TestAMailboxSaysWhatIsGoneFromItAndHow(t *testing.T) {
	c := storetest.NewClock()
	o := Options{Dir: t.TempDir(), Now: c.Now, MailboxLimit: 4}
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
			mustDo(t, e.Recall(t.Context(), fmt.Sprint("m", ids-4+n)))
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
	mustDo(t, e.Erase(t.Context(), "erased"))
	send("erased", l, l)
	send("forgotten", l)
	mustDo(t, e.Erase(t.Context(), "forgotten"))
	c.Advance(2 * s)
	mustDo(t, e.Close())
	want := map[string]bridge.MailboxEntry{
		"whole":    {Head: 4},
		"expired":  {Head: 4, Expired: 4},
		"trimmed":  {Head: 6, Trimmed: 2},
		"both":     {Head: 6, Trimmed: 2, Expired: 4},
		"recalled": {Head: 4, Holes: [][2]uint64{{1, 1}, {3, 4}}},
		"mixed":    {Head: 4, Expired: 1, Holes: [][2]uint64{{2, 2}, {4, 4}}},
		"late":     {Head: 4, Expired: 3},
		"empty":    {Head: 4, Holes: [][2]uint64{{1, 4}}},
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
