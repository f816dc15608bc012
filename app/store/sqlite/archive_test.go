package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/local"
	"hookbridge/app/store/storetest"
)

func TestArchive(t *testing.T) {
	t.Parallel()
	t.Run("carries a store whole", archiveCarriesWhole)
	t.Run("is refused while another process uses the store", archiveIsAlone)
}

func TestImport(t *testing.T) {
	t.Parallel()
	t.Run("counts entries that come twice as one", importOfRepeats)
	t.Run("that broke off leaves no store, and starts over", importBrokeOff)
	t.Run("that an older version began starts over", importOfOlderVersion)
	t.Run("that starts over leaves nothing of the one before", importStartsOver)
	t.Run("of what cannot be loaded leaves the store as it was", importRefused)
	t.Run("into a store that has been used is refused", importIntoUsedStore)
	t.Run("into an empty store gives it the epoch that is imported", importIntoEmptyStore)
}

func openArchive(t *testing.T, o Options) *Archive {
	t.Helper()
	a, err := OpenArchive(t.Context(), o)
	if err != nil {
		t.Fatalf("open an archive: %v", err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// filled is a closed store in all its states: what has expired lies in it, or
// has been taken out.
func filled(t *testing.T, pruned bool) (Options, *storetest.Clock) {
	t.Helper()
	c := storetest.NewClock()
	o := Options{Dir: scratch(t), Now: c.Now, MailboxLimit: storetest.FilledMailbox, BroadcastLimit: 12, Backends: storetest.Backends}
	e := open(t, o)
	storetest.Fill(t, storetest.Pair{Store: e, Live: local.New(e, c.Now), Outbox: e}, c)
	if pruned {
		expect.Eventually(t, "what has expired to leave", func() bool {
			return number(t, e, fmt.Sprint("SELECT count(*) FROM mail WHERE expires <= ", c.Now().UnixNano())) == 0
		})
	}
	expect.NoError(t, e.Close())
	return o, c
}

// elsewhere is a store like another one, in a new folder that is not made yet.
func elsewhere(t *testing.T, o Options) Options {
	t.Helper()
	o.Dir = scratch(t) + "/new/store"
	return o
}

// exported is an entry that has gone through a file.
type exported struct {
	line  string
	entry bridge.Entry
}

func throughFile(e bridge.Entry) (x exported, err error) {
	b, err := json.Marshal(e)
	if err != nil {
		return x, err
	}
	x.line = string(b)
	return x, json.Unmarshal(b, &x.entry)
}

func lines(all []exported) (out []string) {
	for _, x := range all {
		out = append(out, x.line)
	}
	return out
}

func entries(all []exported) (out []bridge.Entry) {
	for _, x := range all {
		out = append(out, x.entry)
	}
	return out
}

// load imports entries in batches.
func load(t *testing.T, o Options, all []exported, batch int, epoch string) {
	t.Helper()
	a := openArchive(t, o)
	expect.NoError(t, a.Begin(t.Context()))
	for part := range slices.Chunk(all, batch) {
		expect.NoError(t, a.Load(t.Context(), entries(part)))
	}
	expect.NoError(t, a.Finish(t.Context(), epoch))
	expect.NoError(t, a.Close())
}

// breakOff begins an import that is not finished, which no bridge starts on. Before it
// is closed, last changes what it left.
func breakOff(t *testing.T, o Options, all []exported, last func(*Archive) error) {
	t.Helper()
	a := openArchive(t, o)
	expect.NoError(t, a.Begin(t.Context()))
	if n, err := a.Count(t.Context()); err != nil || n != 0 {
		t.Fatalf("it starts over with %d entries, %v", n, err)
	}
	expect.NoError(t, a.Load(t.Context(), entries(all)))
	if last != nil {
		expect.NoError(t, last(a))
	}
	expect.NoError(t, a.Close())
	if _, err := Open(t.Context(), o); !errors.Is(err, bridge.ErrUnfinished) || !strings.Contains(err.Error(), "hookbridge import") {
		t.Fatalf("a bridge on half a store: %v", err)
	}
}

func epochOf(t *testing.T, o Options) string {
	t.Helper()
	a := openArchive(t, o)
	epoch, err := a.Epoch()
	expect.NoError(t, err)
	expect.NoError(t, a.Close())
	return epoch
}

// alike fails where two stores are to be told apart.
func alike(t *testing.T, o, p Options, c *storetest.Clock) {
	t.Helper()
	a, b := open(t, o), open(t, p)
	for _, u := range []string{"ada", "bob", "jon"} {
		var orders [2][]string
		for i, e := range []*Store{a, b} {
			page, err := e.Read(t.Context(), u, e.Life(), bridge.Position{}, 1_000, 1<<20)
			expect.NoError(t, err)
			for _, d := range page.Deliveries {
				orders[i] = append(orders[i], d.Message.ID)
			}
		}
		if len(orders[0]) == 0 || !slices.Equal(orders[0], orders[1]) {
			t.Errorf("messages of %s come as %v and %v", u, orders[0], orders[1])
		}
	}
	storetest.Same(t, storetest.Pair{Store: a, Live: local.New(a, c.Now), Outbox: a}, storetest.Pair{Store: b, Live: local.New(b, c.Now), Outbox: b}, c)
	expect.NoError(t, a.Close())
	expect.NoError(t, b.Close())
}

func archiveCarriesWhole(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		pruned bool
		batch  int
	}{{false, 7}, {true, 10_000}} {
		t.Run(fmt.Sprintf("pruned %v, %d entries at a time", way.pruned, way.batch), func(t *testing.T) {
			t.Parallel()
			o, c := filled(t, way.pruned)
			all := dumpAll(t, o)
			p := elsewhere(t, o)
			load(t, p, all, way.batch, epochOf(t, o))
			// In the order of kinds; within one, events that have expired meanwhile come first.
			got, want := lines(dumpAll(t, p)), lines(all)
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("carried on, it is\n%s\nand was\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			alike(t, o, p, c)
		})
	}
}

func importOfRepeats(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	o, c := filled(t, true)
	var twice []exported
	for part := range slices.Chunk(dumpAll(t, o), 13) {
		twice = append(append(twice, part...), part...)
	}
	p := elsewhere(t, o)
	load(t, p, twice, 20, epochOf(t, o))
	alike(t, o, p, c)
}

func importBrokeOff(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	o, c := filled(t, true)
	all := dumpAll(t, o)
	p := elsewhere(t, o)
	const batch = 97
	for done := 0; done < len(all); done += batch {
		breakOff(t, p, all[:done], nil)
		a := openArchive(t, p)
		if epoch, err := a.Epoch(); !errors.Is(err, bridge.ErrUnfinished) {
			t.Fatalf("half a store has the epoch %q, %v", epoch, err)
		}
		expect.NoError(t, a.Close())
	}
	load(t, p, all, 1_000, epochOf(t, o))
	alike(t, o, p, c)
}

// Older versions noted how far an import had come, and continued it.
func importOfOlderVersion(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	o, c := filled(t, true)
	all := dumpAll(t, o)
	p := elsewhere(t, o)
	breakOff(t, p, all[:100], func(a *Archive) error {
		return a.conn.Exec(`UPDATE meta SET value = '{"export":"abcdefgh","loaded":100}' WHERE key = 'import'`)
	})
	load(t, p, all, 1_000, epochOf(t, o))
	alike(t, o, p, c)
}

func importRefused(t *testing.T) {
	t.Parallel()
	p := elsewhere(t, Options{})
	a := openArchive(t, p)
	expect.NoError(t, a.Begin(t.Context()))
	event := bridge.Entry{Event: &bridge.EventEntry{ID: "m1", Digest: make([]byte, 32), Until: time.Now().Add(time.Hour).UnixNano()}}
	orphan := bridge.Entry{Message: &bridge.MessageEntry{User: "u", Seq: 1, ID: "orphan"}}
	for _, bad := range []bridge.Entry{orphan, {}} {
		if err := a.Load(t.Context(), []bridge.Entry{event, bad}); !errors.Is(err, bridge.ErrBadEntry) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	full := func(op string) error { return sqlite3.FULL }
	a.vfs.Fault.Store(&full)
	if err := a.Load(t.Context(), []bridge.Entry{event}); err == nil {
		t.Error("it was loaded onto a disk that takes nothing")
	}
	a.vfs.Fault.Store(nil)
	if n, err := a.Count(t.Context()); err != nil || n != 0 {
		t.Errorf("%d entries, %v", n, err)
	}
	expect.NoError(t, a.Load(t.Context(), []bridge.Entry{event}))
	if n, err := a.Count(t.Context()); err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func archiveIsAlone(t *testing.T) {
	t.Parallel()
	o := Options{Dir: scratch(t)}
	e := open(t, o)
	if _, err := OpenArchive(t.Context(), o); !errors.Is(err, bridge.ErrInUse) {
		t.Errorf("an archive beside a bridge: %v", err)
	}
	expect.NoError(t, e.Close())
	a := openArchive(t, o)
	for range 2 {
		if _, err := Open(t.Context(), o); !errors.Is(err, bridge.ErrInUse) {
			t.Errorf("a bridge beside an archive: %v", err)
		}
	}
	expect.NoError(t, a.Close())
	if err := a.Close(); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if err := a.Begin(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("asked when closed: %v", err)
	}
	expect.NoError(t, open(t, o).Close())
}

func importIntoUsedStore(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]func(e *Store) error{
		"an id": func(e *Store) error {
			_, err := e.Append(t.Context(), message("never", "u", 10, time.Time{}))
			return err
		},
		"a user": func(e *Store) error {
			_, err := e.Enter(t.Context(), bridge.Member{User: "u", Session: "ses_1"}, "")
			return err
		},
		"a revocation": func(e *Store) error { return e.Revoke(t.Context(), "u", bridge.Revocation{TokenID: "t"}) },
		"a member":     func(e *Store) error { return e.SetMember(t.Context(), "g", "u", true) },
	} {
		o := Options{Dir: scratch(t)}
		e := open(t, o)
		epoch := e.Epoch()
		expect.NoError(t, live(e))
		expect.NoError(t, e.Close())
		a := openArchive(t, o)
		if err := a.Begin(t.Context()); !errors.Is(err, bridge.ErrNotEmpty) {
			t.Errorf("%s: %v", name, err)
		}
		expect.NoError(t, a.Close())
		if got := open(t, o).Epoch(); got != epoch {
			t.Errorf("%s: the epoch is %q and was %q", name, got, epoch)
		}
	}
}

func importIntoEmptyStore(t *testing.T) {
	t.Parallel()
	o := Options{Dir: scratch(t)}
	e := open(t, o)
	expect.NoError(t, e.Check(t.Context()))
	expect.NoError(t, e.Close())
	load(t, o, nil, 1, "carried")
	if e := open(t, o); e.Epoch() != "carried" {
		t.Errorf("epoch %q", e.Epoch())
	}
}

func importStartsOver(t *testing.T) {
	t.Parallel()
	o, _ := filled(t, true)
	p := elsewhere(t, o)
	breakOff(t, p, dumpAll(t, o), nil)
	load(t, p, nil, 1, "carried")
	e := open(t, p)
	if r := mustAppend(t, e, message("msg_1", "bob", 10, inAnHour())); r.Duplicate || r.Recipients[0].Seq != 1 {
		t.Errorf("the first message is %+v", r)
	}
}
