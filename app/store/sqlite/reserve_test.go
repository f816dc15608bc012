package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite/walfile"
)

func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("mends itself when messages expire", fullDiskExpiry)
	t.Run("mends itself when a user is erased", fullDiskErasure)
	t.Run("keeps room to erase, whoever connects meanwhile", fullDiskNewUsers)
	t.Run("that others have filled mends itself when messages expire", fullDiskOfOthers)
	t.Run("is reported by a start on it, and mends itself", fullDiskAtStart)
	t.Run("has a reserve in which making room goes on", fullDiskReserve)
}

// fullUp makes a store on a small disk and stores messages of an hour until there
// is no room for more.
func fullUp(t *testing.T, c *shifted) (e *Store, stored int, dir, filler string) {
	t.Helper()
	disk := scratch(t)
	unmount, err := mountSmall(disk, "24m")
	if err != nil {
		t.Skipf("no small disk to be had: %v", err)
	}
	filler = filepath.Join(disk, "filler")
	expect.NoError(t, os.WriteFile(filler, make([]byte, 4<<20), 0o600))
	dir = filepath.Join(disk, "data")
	t.Cleanup(func() { expect.NoError(t, unmount()) })
	e = open(t, Options{Dir: dir, Now: c.now, MailboxBytes: 1 << 30})
	mustJoin(t, e, member("known", "k1", "token")) // while there is room to write that down
	if stored = untilFull(t, e, c, "u", 40<<10); stored == 0 {
		t.Fatal("nothing was stored")
	}
	return e, stored, dir, filler
}

// untilFull stores messages for a user. A write that does not fit may be followed by ones
// that do: the logs are emptied meanwhile, beside the writer. The disk is full when nothing
// fits time after time.
func untilFull(t *testing.T, e *Store, c *shifted, user string, size int) (stored int) {
	t.Helper()
	for i, refused := 0, 0; refused < 50; i++ {
		if i == 10_000 {
			t.Fatalf("after %d messages the disk is not full", stored)
		}
		switch _, err := e.Append(t.Context(), message(fmt.Sprint(user, i), user, size, c.now().Add(time.Hour))); {
		case err == nil:
			stored++
			refused = 0
		case errors.Is(err, errDiskFull):
			refused++
		default:
			t.Fatalf("after %d messages: %v", stored, err)
		}
	}
	return stored
}

// steady finds the store full, however often it is asked and whatever is tried.
func steady(t *testing.T, e *Store, c *shifted) {
	t.Helper()
	for i := range 20 {
		if err := e.Check(t.Context()); !errors.Is(err, errDiskFull) {
			t.Fatalf("check %d: %v", i, err)
		}
		if _, err := e.Append(t.Context(), message(fmt.Sprint("small", i), "u", 10, c.now().Add(time.Hour))); !errors.Is(err, errDiskFull) {
			t.Fatalf("append %d: %v", i, err)
		}
	}
}

func fullDiskExpiry(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it fills a disk")
	}
	c := &shifted{}
	e, stored, _, _ := fullUp(t, c)
	steady(t, e, c)
	if p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 10_000, 1<<30); err != nil || len(p.Deliveries) != stored {
		t.Fatalf("reading on the full disk: %d of %d, %v", len(p.Deliveries), stored, err)
	}
	c.advance(2 * time.Hour)
	expect.Eventually(t, "room for messages", func() bool { return e.Check(t.Context()) == nil })
	mustAppend(t, e, message("after", "u", 40<<10, c.now().Add(time.Hour)))
}

func fullDiskErasure(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	c := &shifted{}
	e, _, _, _ := fullUp(t, c)
	expect.NoError(t, e.Erase(t.Context(), "u"))
	expect.Eventually(t, "room for messages", func() bool { return e.Check(t.Context()) == nil })
	mustAppend(t, e, message("after", "v", 40<<10, c.now().Add(time.Hour)))
}

// fillUp has somebody else take all that is free on the disk of a store's folder.
func fillUp(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(filepath.Dir(dir), "others"))
	expect.NoError(t, err)
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	expect.NoError(t, f.Close())
	if !walfile.Full(err) {
		t.Fatal(err)
	}
}

// comeAndGo has users connect for the first time, and leave delivery logs behind, until
// many of them have been refused.
func comeAndGo(t *testing.T, e *Store) (refused int) {
	t.Helper()
	for i := 0; i < 1_000 && refused < 100; i++ {
		m := member(fmt.Sprint("somebody-new-", i), fmt.Sprint("s", i), "token", "group")
		switch _, err := e.Enter(t.Context(), m, ""); {
		case errors.Is(err, errDiskFull):
			refused++
			continue
		case err != nil:
			t.Fatal(err)
		}
		log := bridge.DeliveryLog{Member: m, Ended: time.Now()}
		for n := range 60 {
			log.Unstored = append(log.Unstored, bridge.Unstored{ID: fmt.Sprint("an-event-with-a-long-name-", n), Sent: time.Now()})
		}
		expect.NoError(t, e.Exit(t.Context(), log))
	}
	return refused
}

func fullDiskNewUsers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it fills a disk")
	}
	for name, others := range map[string]bool{"alone": false, "others take what is free": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &shifted{}
			e, _, dir, _ := fullUp(t, c)
			if others {
				fillUp(t, dir)
			}
			if refused := comeAndGo(t, e); refused == 0 {
				t.Error("it had room for all")
			}
			mustJoin(t, e, member("known", "k2", "token")) // nothing has to be written
			expect.NoError(t, e.Erase(t.Context(), "u"))
			expect.Eventually(t, "room for messages", func() bool { return e.Check(t.Context()) == nil })
			mustAppend(t, e, message("after", "v", 40<<10, c.now().Add(time.Hour)))
		})
	}
}

// The store is not the one to fill the disk, and finds it full when it writes.
func fullDiskOfOthers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it fills a disk")
	}
	for name, lags := range map[string]bool{"at any moment": false, "while the checkpointer lags behind": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			othersFill(t, lags)
		})
	}
}

func othersFill(t *testing.T, lags bool) {
	disk := scratch(t)
	unmount, err := mountSmall(disk, "24m")
	if err != nil {
		t.Skipf("no small disk to be had: %v", err)
	}
	t.Cleanup(func() { expect.NoError(t, unmount()) })
	c := &shifted{}
	dir := filepath.Join(disk, "data")
	e := open(t, Options{Dir: dir, Now: c.now})
	if lags {
		expect.NoError(t, e.do(t.Context(), func(w *writer) error {
			e.checkpoints.sizes.copy = 1 << 40 // it is never asked
			return nil
		}))
	}
	for i := range 100 {
		mustAppend(t, e, message(fmt.Sprint("m", i), "u", 80<<10, c.now().Add(time.Hour)))
	}
	expect.NoError(t, os.Remove(e.reserve.path())) // by hand
	expect.Eventually(t, "room to be kept again", func() bool {
		size, err := sizeOf(e.reserve.path())
		return err == nil && size == e.reserve.whole()
	})
	fillUp(t, dir)
	untilFull(t, e, c, "v", 80<<10)
	steady(t, e, c)
	c.advance(2 * time.Hour)
	expect.Eventually(t, "room for messages", func() bool { return e.Check(t.Context()) == nil })
	mustAppend(t, e, message("after", "u", 40<<10, c.now().Add(time.Hour)))
}

func fullDiskAtStart(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it fills a disk")
	}
	c := &shifted{}
	e, stored, dir, filler := fullUp(t, c)
	expect.NoError(t, e.Close())
	e = open(t, Options{Dir: dir, Now: c.now, MailboxBytes: 1 << 30})
	steady(t, e, c)
	if p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 10_000, 1<<30); err != nil || len(p.Deliveries) != stored {
		t.Fatalf("reading on the full disk: %d of %d, %v", len(p.Deliveries), stored, err)
	}
	expect.NoError(t, os.Remove(filler))
	mustAppend(t, e, message("after", "u", 10, c.now().Add(time.Hour)))
	expect.NoError(t, e.Check(t.Context()))
}

// A disk that has no room for anything is simulated: writes fail for as long as
// the reserve takes its room.
func fullDiskReserve(t *testing.T) {
	t.Parallel()
	c := &shifted{}
	e := open(t, Options{Dir: scratch(t), Now: c.now})
	for i := range 20 {
		mustAppend(t, e, message(fmt.Sprint("m", i), "u", 100, c.now().Add(time.Hour)))
	}
	noRoom := func(op string) error {
		if size, err := sizeOf(e.reserve.path()); err == nil && size > 0 {
			return sqlite3.FULL
		}
		return nil
	}
	e.reserve.space = func(string) (int64, int64, bool) { return 0, 1 << 30, true }
	e.vfs.Fault.Store(&noRoom)
	if _, err := e.Append(t.Context(), message("full", "u", 100, c.now().Add(time.Hour))); !errors.Is(err, bridge.ErrUnavailable) {
		t.Fatalf("append: %v", err)
	}
	steady(t, e, c)
	c.advance(2 * time.Hour)
	expect.Eventually(t, "what has expired to be taken out", func() bool { return number(t, e, "SELECT count(*) FROM mail") == 0 })
	steady(t, e, c)
	expect.NoError(t, e.Erase(t.Context(), "u"))
}
