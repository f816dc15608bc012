package sqlite

import (
	"testing"

	"hookbridge/app/bridge"
	"hookbridge/app/bridge/enginetest"
)

func TestTheEmbeddedEngineKeepsThePromises(t *testing.T) {
	enginetest.Run(t, func(t *testing.T, o enginetest.Options) enginetest.Open {
		dir := t.TempDir()
		return func() (bridge.Engine, error) {
			return Open(t.Context(), Options{Dir: dir, Now: o.Now, MailboxLimit: o.MailboxLimit, MailboxBytes: o.MailboxBytes})
		}
	})
}
