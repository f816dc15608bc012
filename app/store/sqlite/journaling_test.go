package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite/journal"
)

// killed makes a store with n messages to u as a process that was killed leaves it, with
// all of them in the journal alone, and returns its folder, its life and the journal's file.
func killed(t *testing.T, n int) (dir, life, file string) {
	t.Helper()
	running := scratch(t)
	e := open(t, Options{Dir: running})
	expect.Eventually(t, "the messages to be in the journal alone", func() bool {
		expect.NoError(t, e.Close())
		expect.NoError(t, os.RemoveAll(running))
		e = open(t, Options{Dir: running})
		for i := range n {
			mustAppend(t, e, message(fmt.Sprint("m", i), "u", 100, inAnHour()))
		}
		dir = scratch(t)
		expect.NoError(t, os.CopyFS(dir, os.DirFS(running)))
		return number(t, e, "SELECT count(*) FROM log") == 0
	})
	file, err := journal.Present(dir)
	if err != nil || file == "" {
		t.Fatalf("no journal: %v", err)
	}
	return dir, e.Life(), file
}

func TestTheJournal(t *testing.T) {
	t.Parallel()
	all := func(t *testing.T, e *Store) []string {
		t.Helper()
		p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 1_000, 1<<30)
		if err != nil || p.Lost() != (bridge.Lost{}) {
			t.Fatalf("read: %+v, %v", p.Lost(), err)
		}
		var ids []string
		for i, d := range p.Deliveries {
			if d.Mailbox != uint64(i+1) {
				t.Fatalf("%s is at %d, not %d", d.Message.ID, d.Mailbox, i+1)
			}
			ids = append(ids, d.Message.ID)
		}
		return ids
	}
	t.Run("has what the file has not when the process is killed", func(t *testing.T) {
		t.Parallel()
		dir, life, _ := killed(t, 40)
		e := open(t, Options{Dir: dir})
		if got := all(t, e); len(got) != 40 {
			t.Fatalf("%d of 40 messages", len(got))
		}
		if end, err := e.LifeEnd(t.Context(), "u", life); err != nil || end.Mailbox != 40 {
			t.Errorf("the life before ended at %v, %v", end, err)
		}
		if r := mustAppend(t, e, message("m7", "u", 100, inAnHour())); !r.Duplicate || r.Recipients[0].Seq != 8 {
			t.Errorf("a retry: %+v", r)
		}
		if r := mustAppend(t, e, message("next", "u", 100, inAnHour())); r.Recipients[0].Seq != 41 {
			t.Errorf("the next one: %+v", r)
		}
	})
	t.Run("is taken over by an archive", func(t *testing.T) {
		t.Parallel()
		dir, _, _ := killed(t, 3)
		a, err := OpenArchive(t.Context(), Options{Dir: dir})
		expect.NoError(t, err)
		n := 0
		expect.NoError(t, a.Dump(t.Context(), func(e bridge.Entry) error {
			if e.Message != nil {
				n++
			}
			return nil
		}))
		expect.NoError(t, a.Close())
		if file, err := journal.Present(dir); n != 3 || file != "" || err != nil {
			t.Errorf("%d messages of 3, journal %q, %v", n, file, err)
		}
	})
	t.Run("may end in a half entry", func(t *testing.T) {
		t.Parallel()
		dir, _, file := killed(t, 10)
		size, err := sizeOf(file)
		expect.NoError(t, err)
		expect.NoError(t, os.Truncate(file, size-5))
		if got := all(t, open(t, Options{Dir: dir})); len(got) != 9 {
			t.Fatalf("%d of 9 whole messages", len(got))
		}
	})
	t.Run("keeps a store closed where its middle is damaged", func(t *testing.T) {
		t.Parallel()
		for _, at := range []int64{60, 2_000} { // the first entry, and a later one
			dir, _, file := killed(t, 20)
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			expect.NoError(t, err)
			_, err = f.WriteAt([]byte("junk"), at)
			expect.NoError(t, errors.Join(err, f.Close()))
			if e, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), file) {
				if err == nil {
					expect.NoError(t, e.Close())
				}
				t.Errorf("damaged at %d: %v", at, err)
			}
		}
	})
	t.Run("is not used with a bridge.db of another time", func(t *testing.T) {
		t.Parallel()
		dir, _, file := killed(t, 5)
		other := scratch(t)
		e := open(t, Options{Dir: other})
		mustAppend(t, e, message("theirs", "u", 100, inAnHour()))
		expect.NoError(t, e.Close())
		b, err := os.ReadFile(file)
		expect.NoError(t, err)
		expect.NoError(t, os.WriteFile(filepath.Join(other, filepath.Base(file)), b, 0o600))
		if got := all(t, open(t, Options{Dir: other})); len(got) != 1 || got[0] != "theirs" {
			t.Errorf("read %q", got)
		}
		expect.NoError(t, os.Remove(filepath.Join(dir, fileName)))
		expect.NoError(t, errors.Join(removeIfThere(filepath.Join(dir, fileName+"-wal")), removeIfThere(filepath.Join(dir, fileName+"-shm"))))
		if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "is missing beside the journal") {
			t.Errorf("without its bridge.db: %v", err)
		}
	})
	t.Run("is gone from a store at rest", func(t *testing.T) {
		t.Parallel()
		dir := scratch(t)
		e := open(t, Options{Dir: dir})
		mustAppend(t, e, message("m", "u", 100, inAnHour()))
		expect.NoError(t, e.Close())
		if found, err := filepath.Glob(filepath.Join(dir, "bridge.journal*")); err != nil || len(found) > 0 {
			t.Errorf("%q, %v", found, err)
		}
	})
	t.Run("brings back what a failed group has rolled back", func(t *testing.T) {
		t.Parallel()
		e := open(t, Options{Dir: scratch(t)})
		for i := range 10 {
			mustAppend(t, e, message(fmt.Sprint("m", i), "u", 100, inAnHour()))
		}
		mend := breakDisk(e, "write")
		if _, err := e.Append(t.Context(), message("lost", "u", 100, inAnHour())); !errors.Is(err, bridge.ErrUnavailable) {
			t.Fatalf("append: %v", err)
		}
		mend()
		if r := mustAppend(t, e, message("after", "u", 100, inAnHour())); r.Recipients[0].Seq != 11 {
			t.Errorf("after that: %+v", r)
		}
		if got := all(t, e); len(got) != 11 || got[10] != "after" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("outlives a disk that is full when it is filled", func(t *testing.T) {
		t.Parallel()
		e := open(t, Options{Dir: scratch(t)})
		for i := range 30 {
			mustAppend(t, e, message(fmt.Sprint("m", i), "u", 100, inAnHour()))
		}
		commits := 0 // and attempts at them
		full := func(op string) error {
			if op != "write" {
				return nil
			}
			if commits++; commits <= 3 {
				return sqlite3.FULL
			}
			return nil
		}
		e.vfs.Fault.Store(&full)
		expect.Eventually(t, "all to be in the file", func() bool { return number(t, e, "SELECT count(*) FROM mail WHERE user = 'u'") == 30 })
		e.vfs.Fault.Store(nil)
		if got := all(t, e); len(got) != 30 {
			t.Errorf("%d messages", len(got))
		}
	})
	t.Run("says when it was removed while the program runs", func(t *testing.T) {
		t.Parallel()
		dir := scratch(t)
		e := open(t, Options{Dir: dir})
		n := 0
		expect.Eventually(t, "the loss to be found", func() bool { // a tick may have taken the other file first
			mustAppend(t, e, message(fmt.Sprint("before", n), "u", 100, inAnHour()))
			files, err := filepath.Glob(filepath.Join(dir, "bridge.journal*"))
			expect.NoError(t, err)
			for _, f := range files {
				expect.NoError(t, os.Remove(f))
			}
			n++
			_, err = e.Append(t.Context(), message(fmt.Sprint("after", n), "u", 100, inAnHour()))
			return errors.Is(err, errDamaged)
		})
	})
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func TestAJournaledMessageIsReadBackAsItWas(t *testing.T) {
	m := message("id", "", 300, inAnHour().UTC().Truncate(time.Millisecond))
	m.To = bridge.Target{Users: []string{"ada", "bob"}}
	m.From, m.Type, m.At, m.Except, m.Escalate = "eve", "a.b", time.Unix(5, 7).UTC(), []string{"ses_1", "ses_2"}, time.Minute
	m.Tail, m.Digest[3] = nil, 9
	places := appendPlace(appendPlace(nil, place{"ada", 3}), place{"bob", 1 << 40})
	b := appendJournaled(nil, 42, 77, m, places)
	j, rest, err := parseJournaled(append(b, "rest"...))
	if err != nil || string(rest) != "rest" || j.no != 42 || j.born != 77 || fmt.Sprint(j.places) != "[{ada 3} {bob 1099511627776}]" {
		t.Fatalf("%+v, %q, %v", j, rest, err)
	}
	if got, want := fmt.Sprintf("%+v", *j.msg), fmt.Sprintf("%+v", *m); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for n := range len(b) {
		if _, _, err := parseJournaled(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a message", n, len(b))
		}
	}
}
