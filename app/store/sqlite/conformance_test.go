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
	storetest.RunRewinds(t, func(t *testing.T, o storetest.Options) storetest.Rewindable {
		dir, backup := t.TempDir(), t.TempDir()
		copyInto := func(to, from string) {
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		return storetest.Rewindable{
			Open: func() (storetest.Pair, error) {
				return pair(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit})
			},
			Save:   func() { copyInto(backup, dir) },
			Rewind: func() { copyInto(dir, backup) },
		}
	})
}

func TestTheEmbeddedStoreKeepsThePromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Open {
		dir := t.TempDir()
		if testing.Short() {
			dir = scratch(t)
		}
		return func() (storetest.Pair, error) {
			return pair(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit, MailboxBytes: o.MailboxBytes})
		}
	})
}

// pair opens a store as both of a pair.
func pair(ctx context.Context, o Options) (storetest.Pair, error) {
	s, err := Open(ctx, o)
	return storetest.Pair{Store: s, Live: local.New(s, o.Now)}, err
}
