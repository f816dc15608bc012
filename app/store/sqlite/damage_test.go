package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite/walfile"
)

func TestDamage(t *testing.T) {
	t.Parallel()
	t.Run("before the start is refused, and named", damageIsRefused)
	t.Run("is not what a killed process leaves", damageIsNotAKill)
	t.Run("to a file of a running store ends its appends", damageToFiles)
	t.Run("to the write-ahead log leaves what comes before it", damageToLog)
	t.Run("to the folder of a running store ends its appends", damageToFolder)
	t.Run("is found by an idle store", damageWhileIdle)
	t.Run("to a page is reported by the check, and ends appends", damageToPage)
	t.Run("to the lock file lets no second process in", damageToLock)
}

// leave makes a store with messages in dir as a process that was killed leaves
// it: of the last two one stands in the write-ahead log alone, one in the journal.
func leave(t *testing.T, dir string) {
	t.Helper()
	running := scratch(t)
	e := open(t, Options{Dir: running})
	var ms []*bridge.Message
	for i := range 300 {
		ms = append(ms, message(fmt.Sprint("m", i), "u", 2000, inAnHour()))
	}
	for _, a := range e.AppendMany(t.Context(), ms) {
		expect.NoError(t, a.Err)
	}
	expect.NoError(t, e.settled(t.Context()))
	// A reader lets a checkpoint copy only what it sees itself.
	expect.Eventually(t, "all of the log to be copied", func() bool { return e.checkpoints.truncate() == nil })
	mustAppend(t, e, message("newer", "u", 2000, inAnHour()))
	expect.NoError(t, e.settled(t.Context()))
	mustAppend(t, e, message("newest", "u", 2000, inAnHour()))
	expect.NoError(t, os.CopyFS(dir, os.DirFS(running)))
	expect.NoError(t, e.Close())
}

func damageIsRefused(t *testing.T) {
	t.Parallel()
	junk := func(t *testing.T, dir string, off int64, n int) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_RDWR, 0)
		expect.NoError(t, err)
		_, err = f.WriteAt([]byte(strings.Repeat("junk", n/4)), off)
		expect.NoError(t, errors.Join(err, f.Close()))
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		says string
	}{
		"the main file is gone": {func(t *testing.T, dir string) { expect.NoError(t, os.Remove(filepath.Join(dir, fileName))) },
			"is missing beside its write-ahead log"},
		"the main file is empty": {func(t *testing.T, dir string) { expect.NoError(t, os.Truncate(filepath.Join(dir, fileName), 0)) },
			"is empty (0 bytes)"},
		"both are empty": {func(t *testing.T, dir string) {
			expect.NoError(t, os.Truncate(filepath.Join(dir, fileName), 0))
			expect.NoError(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
		}, "is empty (0 bytes)"},
		"the main file is half as long": {func(t *testing.T, dir string) {
			expect.NoError(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
			size, err := sizeOf(filepath.Join(dir, fileName))
			expect.NoError(t, err)
			expect.NoError(t, os.Truncate(filepath.Join(dir, fileName), size/2/walfile.PageSize*walfile.PageSize))
		}, "is damaged"},
		"its first page is junk": {func(t *testing.T, dir string) {
			expect.NoError(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
			junk(t, dir, 0, 4096)
		}, "is damaged"},
		"a page of its tables is junk": {func(t *testing.T, dir string) {
			expect.NoError(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
			junk(t, dir, 40*walfile.PageSize, 8*walfile.PageSize)
		}, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			leave(t, dir)
			c.harm(t, dir)
			e, err := Open(t.Context(), Options{Dir: dir})
			if err == nil {
				expect.NoError(t, e.Close())
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("it says: %v", err)
			}
		})
	}
}

func damageIsNotAKill(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	leave(t, dir)
	e := open(t, Options{Dir: dir})
	if p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{Mailbox: 300}, 10, 1<<20); err != nil || len(p.Deliveries) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

func damageToFiles(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { expect.NoError(t, os.Remove(path)) },
		"replaced": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			expect.NoError(t, err)
			expect.NoError(t, os.WriteFile(path+".new", b, 0o600))
			expect.NoError(t, os.Rename(path+".new", path))
		},
		"cut short": func(t *testing.T, path string) { expect.NoError(t, os.Truncate(path, 0)) },
	} {
		for _, file := range []string{fileName, fileName + "-wal"} {
			t.Run(file+" is "+name, func(t *testing.T) {
				t.Parallel()
				dir := scratch(t)
				e := open(t, Options{Dir: dir})
				mustAppend(t, e, message("before", "u", 100, inAnHour()))
				harm(t, filepath.Join(dir, file))
				for i := range 3 {
					if _, err := e.Append(t.Context(), message(fmt.Sprint("m", i), "u", 100, inAnHour())); !errors.Is(err, bridge.ErrUnavailable) {
						t.Errorf("append %d: %v", i, err)
					}
					if err := e.Check(t.Context()); !errors.Is(err, bridge.ErrUnavailable) || !strings.Contains(err.Error(), file+" was "+name) {
						t.Errorf("check: %v", err)
					}
				}
			})
		}
	}
}

// Nothing is copied out of a log with a hole in it: what comes before the hole is
// still a store, of which clients are told that it went back.
func damageToLog(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	for i := range 50 {
		m := message(fmt.Sprint("m", i), "u", 2000, inAnHour())
		m.Topic = m.ID // the journal has it not
		mustAppend(t, e, m)
	}
	life := e.Life()
	size, err := sizeOf(filepath.Join(dir, fileName+"-wal"))
	expect.NoError(t, err)
	expect.NoError(t, os.Truncate(filepath.Join(dir, fileName+"-wal"), size/2))
	if _, err := e.Append(t.Context(), message("after", "u", 100, inAnHour())); !errors.Is(err, errDamaged) {
		t.Fatalf("append: %v", err)
	}
	expect.NoError(t, e.Close())
	e = open(t, Options{Dir: dir})
	p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 100, 1<<20)
	if n := len(p.Deliveries); err != nil || n == 0 || n >= 50 {
		t.Fatalf("%d messages, %v", n, err)
	}
	if end, err := e.LifeEnd(t.Context(), "u", life); err != nil || end.Mailbox != uint64(len(p.Deliveries)) {
		t.Errorf("the life before ended at %v, %v", end, err)
	}
}

func damageToFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(scratch(t), "data")
	e := open(t, Options{Dir: dir})
	expect.NoError(t, os.Rename(dir, dir+".away"))
	expect.NoError(t, os.WriteFile(dir, nil, 0o600))
	if _, err := e.Append(t.Context(), message("m", "u", 100, inAnHour())); !errors.Is(err, errDamaged) {
		t.Errorf("append: %v", err)
	}
}

func damageWhileIdle(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	expect.NoError(t, os.Remove(filepath.Join(dir, fileName)))
	expect.Eventually(t, "the check to fail", func() bool { return errors.Is(e.Check(t.Context()), errDamaged) })
}

func damageToPage(t *testing.T) {
	t.Parallel()
	e := open(t, Options{Dir: scratch(t)})
	mustAppend(t, e, message("before", "u", 100, inAnHour()))
	if err := e.health.looked(fmt.Errorf("read: %w", corruptError(t))); err == nil {
		t.Fatal("the error is gone")
	}
	if err := e.Check(t.Context()); !errors.Is(err, errDamaged) {
		t.Errorf("check: %v", err)
	}
	if _, err := e.Append(t.Context(), message("after", "u", 100, inAnHour())); !errors.Is(err, bridge.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
}

// corruptError is SQLite's error for a file that is not a database.
func corruptError(t *testing.T) error {
	t.Helper()
	path := filepath.Join(scratch(t), "junk")
	expect.NoError(t, os.WriteFile(path, []byte(strings.Repeat("junk", 4096)), 0o600))
	v := walfile.New(nil)
	defer v.Close()
	_, err := connect(v, path, setupWriter)
	if err == nil {
		t.Fatal("junk was opened")
	}
	return err
}

func damageToLock(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	expect.NoError(t, os.Remove(filepath.Join(dir, "bridge.lock")))
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, bridge.ErrInUse) || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("a second store: %v", err)
	}
	mustAppend(t, e, message("m", "u", 100, inAnHour()))
	expect.NoError(t, e.Check(t.Context()))
}
