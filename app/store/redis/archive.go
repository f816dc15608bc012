package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Archive is a store that no machine runs on, as a whole: see bridge.Archive.
type Archive struct {
	e     *Store // connected, and not open: nobody hears of it
	epoch string
	begun bool // an import into this store is not finished

	// Of the import that is going on.
	servers map[string]rueidis.Client // that it began with: see primaries
	numbers map[string]int64          // of the lives that were loaded, by name
	// how many callbacks were loaded
	callbacks int64
}

var _ bridge.Archive = (*Archive)(nil)

// OpenArchive connects to a store that no machine runs on. Options are those that
// the machines have. Errors: those of Open, ErrInUse.
func OpenArchive(ctx context.Context, o Options) (*Archive, error) {
	e, err := dial(ctx, o)
	if err != nil {
		return nil, err
	}
	a := &Archive{e: e}
	if err = a.open(ctx); err != nil {
		e.disconnect()
		return nil, err
	}
	return a, nil
}

func (a *Archive) open(ctx context.Context) error {
	e := a.e
	leases, _, epoch := e.machineKeys()
	reply, err := e.run(ctx, call{&e.scripts.liveMachines, []string{leases}, nil})
	if err != nil {
		return err
	}
	n, err := reply.AsInt64()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("redis: %w (machines that count as live: %d; one that was killed does for up to %v)", bridge.ErrInUse, n, e.opts.Lease)
	}
	if err := e.checkWhole(ctx); errors.Is(err, bridge.ErrUnfinished) {
		a.begun = true
	} else if err != nil {
		return err
	}
	a.epoch, err = e.client.Do(ctx, e.client.B().Get().Key(epoch).Build()).ToString()
	return e.fault(ctx, err)
}

// Epoch implements bridge.Archive.
func (a *Archive) Epoch() (string, error) {
	if a.begun {
		return "", fmt.Errorf("redis: %w", bridge.ErrUnfinished)
	}
	return a.epoch, nil
}

// Close implements bridge.Archive.
func (a *Archive) Close() error {
	if a.e.closed.Swap(true) {
		return bridge.ErrClosed
	}
	a.e.disconnect()
	return nil
}

// Count implements bridge.Archive: ids, mailboxes and messages.
func (a *Archive) Count(ctx context.Context) (n int64, err error) {
	e := a.e
	err = a.e.scanKeys(ctx, "*", func(keys []string) error {
		var streams rueidis.Commands
		for _, k := range keys {
			switch tag, rest := a.split(k); {
			case rest == "m":
				streams = append(streams, e.client.B().Xlen().Key(k).Build())
			case strings.HasPrefix(tag, "i") && rest == "", rest == "h":
				n++
			}
		}
		lengths, err := replies(ctx, e, streams, (*rueidis.RedisResult).AsInt64)
		for _, messages := range lengths {
			n += messages
		}
		return err
	})
	return n, err
}

// Begin implements bridge.Archive. A bridge that found nothing here has lived in the
// store: what is loaded brings its own lives.
func (a *Archive) Begin(ctx context.Context) error {
	e := a.e
	err := a.e.scanKeys(ctx, "*", func(keys []string) error {
		if a.begun {
			return a.clear(ctx, keys)
		}
		for _, k := range keys {
			if tag, _ := a.split(k); !strings.HasPrefix(tag, probeTag) {
				return fmt.Errorf("redis: %w: there are keys that begin with %s", bridge.ErrNotEmpty, e.opts.Prefix)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := a.prepare(ctx); err != nil {
		return err
	}
	current, list, primaries := e.lifeKeys()
	err = a.write(ctx, e.client.B().Set().Key(e.importKey()).Value(bridge.ImportMark).Build(),
		e.client.B().Unlink().Key(current, list, primaries).Build())
	if err == nil {
		a.begun, a.epoch, a.numbers = true, "", make(map[string]int64)
	}
	return err
}

// prepare has all servers know the scripts, which an import runs by their hashes, and
// looks whether they take what is written, on as many replicas as they are to.
func (a *Archive) prepare(ctx context.Context) (err error) {
	e := a.e
	if a.servers, err = a.e.primaries(ctx); err != nil {
		return err
	}
	var cmds rueidis.Commands
	for _, s := range e.scripts.all {
		cmds = append(cmds, e.client.B().ScriptLoad().Script(e.lives.now.Load().source(s)).Build().Pin())
	}
	for _, server := range a.servers {
		for _, r := range server.DoMulti(ctx, cmds...) {
			if err := e.fault(ctx, r.Error()); err != nil {
				return err
			}
		}
	}
	return e.probe(ctx)
}

// write sends commands, not too many in one go. Those of one mailbox are carried out in
// their order.
func (a *Archive) write(ctx context.Context, cmds ...rueidis.Completed) error {
	for some := range slices.Chunk(cmds, scanned) {
		for _, r := range a.e.client.DoMulti(ctx, some...) {
			if err := a.e.fault(ctx, r.Error()); err != nil {
				return err
			}
		}
	}
	return nil
}

// clear takes out what an import that broke off has left. The mark stays, so that no
// bridge takes what is left here for a store, wherever this breaks off.
func (a *Archive) clear(ctx context.Context, keys []string) error {
	var cmds rueidis.Commands
	for _, k := range keys {
		if k != a.e.importKey() && k != a.e.formatKey() {
			cmds = append(cmds, a.e.client.B().Unlink().Key(k).Build())
		}
	}
	return a.write(ctx, cmds...)
}

// Finish implements bridge.Archive. A probe waits for replicas, which then have all that
// was written to the same server before.
func (a *Archive) Finish(ctx context.Context, epoch string) error {
	e := a.e
	if err := e.probe(ctx); err != nil {
		return err
	}
	now, err := a.e.primaries(ctx)
	if err != nil {
		return err
	}
	if !maps.EqualFunc(now, a.servers, func(_, _ rueidis.Client) bool { return true }) {
		return fmt.Errorf("%w: redis: a server was restarted or another one has taken over; some of what was imported may be lost", bridge.ErrUnavailable)
	}
	_, _, key := e.machineKeys()
	err = a.write(ctx, e.client.B().Set().Key(key).Value(epoch).Build(), e.client.B().Del().Key(e.importKey()).Build())
	if err != nil {
		return err
	}
	a.epoch, a.begun = epoch, false
	return e.probe(ctx)
}
