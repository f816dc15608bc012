package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"hookbridge/app/wire"
)

// drainSpread is the time over which the reconnects of a drain are spread, so that the
// other machines do not get all of them at once.
const drainSpread = 5 * time.Second

// Drain takes no new work, gives every session what is queued for it and the
// advice when to come back (spread, so that they do not come all at once), and
// closes it with 1012. It returns when all are gone, or with an error that says
// how many were cut off when ctx or DrainTimeout ended.
func (b *Bridge) Drain(ctx context.Context) error {
	b.enterMu.Lock()
	first := !b.draining.Swap(true)
	for conn := range b.unauthenticated {
		go b.guard.Run("connection", func() {
			conn.WriteClose(wire.CloseRestart, "the machine restarts", time.Now().Add(closeWait))
		})
	}
	b.enterMu.Unlock()
	if first {
		b.log.Info("draining", "sessions", b.hub.count())
	}
	b.waits.close()
	for _, s := range b.hub.all() {
		b.advise(s)
	}
	gone := make(chan struct{})
	go b.guard.Run("drain", func() {
		b.running.Wait()
		close(gone)
	})
	defer b.refusals.Flush()
	ctx, cancel := context.WithTimeout(ctx, b.cfg.DrainTimeout)
	defer cancel()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	left := b.hub.all()
	for _, s := range left {
		s.conn.Abort()
	}
	b.enterMu.Lock()
	defer b.enterMu.Unlock()
	for conn := range b.unauthenticated {
		conn.Abort()
	}
	return fmt.Errorf("%d sessions were cut off when the drain's time was up", len(left))
}

// advise tells one session when to reconnect, and closes it.
func (b *Bridge) advise(s *Session) {
	after := time.Duration(rand.Int64N(int64(drainSpread)))
	s.endWith(wire.Reconnect{AfterMs: after.Milliseconds(), Reason: "draining"}.Frame(),
		wire.CloseRestart, "the machine restarts")
}
