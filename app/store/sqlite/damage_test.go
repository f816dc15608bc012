package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/walfile"
)

// leave makes a store with messages in dir as a process that was killed leaves
// it: the newest of them stand in the write-ahead log alone.
func leave(t *testing.T, dir string) {
	t.Helper()
	running := scratch(t)
	e := open(t, Options{Dir: running})
	var ms []*bridge.Message
	for i := range 300 {
		ms = append(ms, message(fmt.Sprint("m", i), "u", 2000, inAnHour()))
	}
	for _, a := range e.AppendMany(t.Context(), ms) {
		mustDo(t, a.Err)
	}
	mustDo(t, e.settled(t.Context()))
	mustDo(t, e.checkpoints.checkpoint())
	mustAppend(t, e, message("newest", "u", 2000, inAnHour()))
	mustDo(t, os.CopyFS(dir, os.DirFS(running)))
	mustDo(t, e.Close())
}

func TestAFolderWhoseFilesDoNotBelongTogetherIsNoStore(t *testing.T) {
	t.Parallel()
	junk := func(t *testing.T, dir string, off int64, n int) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_RDWR, 0)
		mustDo(t, err)
		_, err = f.WriteAt([]byte(strings.Repeat("junk", n/4)), off)
		mustDo(t, errors.Join(err, f.Close()))
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		says string
	}{
		"the main file is gone": {func(t *testing.T, dir string) { mustDo(t, os.Remove(filepath.Join(dir, fileName))) },
			"is missing beside its write-ahead log"},
		"the main file is empty": {func(t *testing.T, dir string) { mustDo(t, os.Truncate(filepath.Join(dir, fileName), 0)) },
			"is empty (0 bytes)"},
		"both are empty": {func(t *testing.T, dir string) {
			mustDo(t, os.Truncate(filepath.Join(dir, fileName), 0))
			mustDo(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
		}, "is empty (0 bytes)"},
		"the main file is half as long": {func(t *testing.T, dir string) {
			mustDo(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
			size, err := sizeOf(filepath.Join(dir, fileName))
			mustDo(t, err)
			mustDo(t, os.Truncate(filepath.Join(dir, fileName), size/2/walfile.PageSize*walfile.PageSize))
		}, "is damaged"},
		"its first page is junk": {func(t *testing.T, dir string) {
			mustDo(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
			junk(t, dir, 0, 4096)
		}, "is damaged"},
		"a page of its tables is junk": {func(t *testing.T, dir string) {
			mustDo(t, os.Remove(filepath.Join(dir, fileName+"-wal")))
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
				mustDo(t, e.Close())
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("it says: %v", err)
			}
		})
	}
}

func TestWhatAKilledProcessLeftIsAStore(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	leave(t, dir)
	e := open(t, Options{Dir: dir})
	if p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{Mailbox: 300}, 10, 1<<20); err != nil || len(p.Deliveries) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestFilesThatGoWhileTheProgramRunsTakeNothingMore(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { mustDo(t, os.Remove(path)) },
		"replaced": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			mustDo(t, err)
			mustDo(t, os.WriteFile(path+".new", b, 0o600))
			mustDo(t, os.Rename(path+".new", path))
		},
		"cut short": func(t *testing.T, path string) { mustDo(t, os.Truncate(path, 0)) },
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
func TestWhatIsLeftOfALogThatWasCutIsAStore(t *testing.T) {
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
	mustDo(t, err)
	mustDo(t, os.Truncate(filepath.Join(dir, fileName+"-wal"), size/2))
	if _, err := e.Append(t.Context(), message("after", "u", 100, inAnHour())); !errors.Is(err, errDamaged) {
		t.Fatalf("append: %v", err)
	}
	mustDo(t, e.Close())
	e = open(t, Options{Dir: dir})
	p, err := e.Read(t.Context(), "u", e.Life(), bridge.Position{}, 100, 1<<20)
	if n := len(p.Deliveries); err != nil || n == 0 || n >= 50 {
		t.Fatalf("%d messages, %v", n, err)
	}
	if end, err := e.LifeEnd(t.Context(), "u", life); err != nil || end.Mailbox != uint64(len(p.Deliveries)) {
		t.Errorf("the life before ended at %v, %v", end, err)
	}
}

func TestAFolderThatIsAFileByNowTakesNothingMore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(scratch(t), "data")
	e := open(t, Options{Dir: dir})
	mustDo(t, os.Rename(dir, dir+".away"))
	mustDo(t, os.WriteFile(dir, nil, 0o600))
	if _, err := e.Append(t.Context(), message("m", "u", 100, inAnHour())); !errors.Is(err, errDamaged) {
		t.Errorf("append: %v", err)
	}
}

func TestAnIdleStoreFindsOutThatItsFileIsGone(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	mustDo(t, os.Remove(filepath.Join(dir, fileName)))
	eventually(t, "the check to fail", func() bool { return errors.Is(e.Check(t.Context()), errDamaged) })
}

func TestAPageThatGoesBadWhileTheProgramRunsIsSaid(t *testing.T) {
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

// corruptError is what SQLite says of a file that is none of its own.
func corruptError(t *testing.T) error {
	t.Helper()
	path := filepath.Join(scratch(t), "junk")
	mustDo(t, os.WriteFile(path, []byte(strings.Repeat("junk", 4096)), 0o600))
	v := walfile.New(nil)
	defer v.Close()
	_, err := connect(v, path, setupWriter)
	if err == nil {
		t.Fatal("junk was opened")
	}
	return err
}

func TestALockFileThatIsRemovedLetsNobodyIn(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	e := open(t, Options{Dir: dir})
	mustDo(t, os.Remove(filepath.Join(dir, "bridge.lock")))
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, bridge.ErrInUse) || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("a second store: %v", err)
	}
	mustAppend(t, e, message("m", "u", 100, inAnHour()))
	mustDo(t, e.Check(t.Context()))
}
