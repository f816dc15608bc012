package sqlite

import (
	"context"
	"os"
	"testing"

	"hookbridge/app/store/local"
	"hookbridge/app/store/storetest"
)

// A backup is a copy of the folder, made and put back while nobody has it open.
func TestABackupThatIsPutBackIsFoundOut(t *testing.T) {
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

func TestTheEmbeddedStoreKeepsThePromises(t *testing.T) {
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
func TestTheEmbeddedStoreKeepsThePromisesOfAFailingDisk(t *testing.T) {
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
