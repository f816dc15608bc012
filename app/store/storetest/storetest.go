// Package storetest is the one conformance suite that every pair of a bridge.Store and
// a bridge.Live must pass. It knows the ports and nothing else: no file, no server, no
// clock but the one it hands in.
package storetest

import (
	"testing"
	"time"

	"hookbridge/app/bridge"
)

// Options is what the suite asks of a new store.
type Options struct {
	// Now is the clock that decides what has expired.
	Now func() time.Time
	// MailboxLimit is how many messages a mailbox holds; the store's default
	// when 0.
	MailboxLimit int
	// MailboxBytes is how many bytes of payload it holds; the store's default
	// when 0.
	MailboxBytes int
	// Backends are whom callbacks are stored for.
	Backends bridge.Backends
	// MaxCallbacks and MaxCallbackBytes bound what is kept for a backend, each of what
	// waits and of what was given up; those of bridge when 0.
	MaxCallbacks     int
	MaxCallbackBytes int64
}

// Pair is a store and who is connected to it; one object may be both.
type Pair struct {
	Store bridge.Store
	Live  bridge.Live
	// Outbox is the store's, and Kill ends it as kill -9 of its process would: what is
	// not committed by then is lost, and the next Open finds the rest. Calls that are
	// under way may fail, or have had their effect. RunOutbox needs both.
	Outbox bridge.Outbox
	Kill   func()
}

// Backend is one store, and what can go wrong with it.
type Backend struct {
	// Open opens the store: the first call finds it empty, later ones, each after the
	// pair before was closed, find what that one left.
	Open func() (Pair, error)

	// Break makes the disk or the server of the open store fail until mend is called.
	// It is needed by RunFaults.
	Break func() (mend func())

	// Save keeps the store as it is, and Rewind brings it back to that: while it is
	// closed or, with RewindsOpen, while it is open, like a server that is restarted
	// with an older file or a replica that lagged and was promoted. They are needed by
	// RunRewinds.
	Save, Rewind func()
	RewindsOpen  bool
}

// Harness makes a new, empty store for one test. What it has to tidy up it
// registers with t.Cleanup; the suite closes the stores it opens.
type Harness func(t *testing.T, o Options) Backend

// Run holds a pair to the promises of bridge.Store and bridge.Live that a sound store
// can keep. Tests run in parallel, each on a store of its own.
func Run(t *testing.T, h Harness) {
	t.Helper()
	run(t, h, appending, targets, reading, acking, losing, holding, living, handover, topics, groups, rights, recalling, people, erasing, batches, sharing, many, claims, lasting)
}

// RunOutbox holds a store to the promises of bridge.Outbox, as Run does to the others.
func RunOutbox(t *testing.T, h Harness) {
	t.Helper()
	run(t, h, callbacks, resending, bounding, ackCallbacks, timers, arming)
}

// RunFaults holds a pair to what it promises of a disk or a server that fails.
func RunFaults(t *testing.T, h Harness) {
	t.Helper()
	run(t, h, failing)
}

func run(t *testing.T, h Harness, groups ...[]promise) {
	t.Helper()
	for _, group := range groups {
		for _, p := range group {
			t.Run(p.sentence, func(t *testing.T) {
				t.Parallel()
				p.test(newFixture(t, h))
			})
		}
	}
}

// promise is one sentence that has to be true, and how to find out.
type promise struct {
	sentence string
	test     func(f *fixture)
}
