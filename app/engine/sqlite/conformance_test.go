package sqlite

import (
	"os"
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/bridge/enginetest"
)

// A backup is a copy of the folder, made and put back while nobody has it open.
func TestABackupThatIsPutBackIsFoundOut(t *testing.T) {
	enginetest.RunRewinds(t, func(t *testing.T, o enginetest.Options) enginetest.Rewindable {
		dir, backup := t.TempDir(), t.TempDir()
		copyInto := func(to, from string) {
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		return enginetest.Rewindable{
			Open: func() (bridge.Engine, error) {
				return Open(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit})
			},
			Save:   func() { copyInto(backup, dir) },
			Rewind: func() { copyInto(dir, backup) },
		}
	})
}

func TestTheEmbeddedEngineKeepsThePromises(t *testing.T) {
	enginetest.Run(t, func(t *testing.T, o enginetest.Options) enginetest.Open {
		dir := t.TempDir()
		return func() (bridge.Engine, error) {
			return Open(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit, MailboxBytes: o.MailboxBytes})
		}
	})
}
