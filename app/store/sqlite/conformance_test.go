package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"hookbridge/app/store/local"
	"hookbridge/app/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Run("of a store", conformanceOfStore)
	t.Run("of an outbox", conformanceOfOutbox)
	t.Run("of a store whose disk fails", conformanceUnderFaults)
	t.Run("of a store that is put back from a backup", conformanceUnderRewinds)
}

// A backup is a copy of the folder, made and put back while nobody has it open.
func conformanceUnderRewinds(t *testing.T) {
	storetest.RunRewinds(t, func(t *testing.T, o storetest.Options) storetest.Backend {
		dir, backup := t.TempDir(), t.TempDir()
		copyInto := func(to, from string) {
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		return storetest.Backend{
			Open: func() (storetest.Pair, error) {
				return pair(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit})
			},
			Save:   func() { copyInto(backup, dir) },
			Rewind: func() { copyInto(dir, backup) },
		}
	})
}

func conformanceOfStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Backend {
		dir := t.TempDir()
		if testing.Short() {
			dir = scratch(t)
		}
		return storetest.Backend{Open: func() (storetest.Pair, error) {
			return pair(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit, MailboxBytes: o.MailboxBytes})
		}}
	})
}

// The disk refuses what is written for a while.
func conformanceUnderFaults(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			storetest.RunFaults(t, func(t *testing.T, o storetest.Options) storetest.Backend {
				dir := t.TempDir()
				var s *Store
				return storetest.Backend{
					Open: func() (storetest.Pair, error) {
						p, err := pair(t.Context(), Options{Dir: dir, Now: o.Now})
						s, _ = p.Store.(*Store)
						return p, err
					},
					Break: func() func() { return breakDisk(s, op) },
				}
			})
		})
	}
}

// pair opens a store as both of a pair.
func pair(ctx context.Context, o Options) (storetest.Pair, error) {
	s, err := Open(ctx, o)
	return storetest.Pair{Store: s, Live: local.New(s, o.Now)}, err
}

func conformanceOfOutbox(t *testing.T) {
	storetest.RunOutbox(t, func(t *testing.T, o storetest.Options) storetest.Backend {
		dir := scratch(t)
		return storetest.Backend{Open: func() (storetest.Pair, error) {
			p, err := pair(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit, MailboxBytes: o.MailboxBytes,
				Backends: o.Backends, MaxCallbacks: o.MaxCallbacks, MaxCallbackBytes: o.MaxCallbackBytes})
			if err != nil {
				return p, err
			}
			p.Outbox = p.Store.(*Store)
			p.Kill = func() { dir = image(t, dir) }
			return p, nil
		}}
	})
}

// image copies the files of a store that is open as they are now, which is what is left
// of it if the process is killed. The journal goes first, because the file may get what is
// in it meanwhile, and the main file before the write-ahead log: what is copied from that
// into the main file meanwhile is still in it.
func image(t *testing.T, dir string) string {
	t.Helper()
	to := scratch(t)
	names, err := filepath.Glob(filepath.Join(dir, "bridge.journal-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, filepath.Join(dir, fileName), filepath.Join(dir, fileName+"-wal")) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(name)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}
