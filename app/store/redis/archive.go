package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Archive is a store that no machine runs on, as a whole: see bridge.Archive.
type Archive struct {
	e      *Store // connected, and not open: nobody hears of it
	epoch  string
	marked bool // the store is known to say that an import is not finished

	numbers map[string]int64 // of the lives that were loaded; nil: not known
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
	a.epoch, err = e.client.Do(ctx, e.client.B().Get().Key(epoch).Build()).ToString()
	return e.fault(ctx, err)
}

// Epoch implements bridge.Archive.
func (a *Archive) Epoch() string { return a.epoch }

// Close implements bridge.Archive.
func (a *Archive) Close() error {
	if a.e.closed.Swap(true) {
		return bridge.ErrClosed
	}
	a.e.disconnect()
	return nil
}

// Count implements bridge.Archive. It takes the first keys of each server for an
// example of all.
func (a *Archive) Count(ctx context.Context) (int64, error) {
	list, err := a.primaries(ctx)
	if err != nil {
		return 0, err
	}
	e, total := a.e, int64(0)
	for i := range list {
		all, err := list[i].client.Do(ctx, list[i].client.B().Dbsize().Build()).AsInt64()
		if err = e.fault(ctx, err); err != nil {
			return 0, err
		}
		looked, entries, cursor := int64(0), int64(0), uint64(0)
		for looked < 10*scanned {
			keys, next, err := a.scan(ctx, &list[i], cursor, "*", scanned)
			if err != nil {
				return 0, err
			}
			var streams rueidis.Commands
			for _, k := range keys {
				switch tag, rest := a.split(k); {
				case rest == "m":
					streams = append(streams, e.client.B().Xlen().Key(k).Build())
				case strings.HasPrefix(tag, "i") && rest == "", rest == "h":
					entries++
				}
			}
			for _, r := range e.client.DoMulti(ctx, streams...) {
				n, err := r.AsInt64()
				if err = e.fault(ctx, err); err != nil {
					return 0, err
				}
				entries += n
			}
			looked += scanned
			if cursor = next; cursor == 0 {
				looked = all
				break
			}
		}
		total += entries * max(1, all) / max(1, looked)
	}
	return total, nil
}

// Progress implements bridge.Archive.
func (a *Archive) Progress(ctx context.Context) (p bridge.Progress, err error) {
	text, err := a.e.client.Do(ctx, a.e.client.B().Get().Key(a.e.importKey()).Build()).AsBytes()
	if err == nil {
		if err = json.Unmarshal(text, &p); err != nil {
			return p, fmt.Errorf("redis: how far the import has come cannot be read: %w", err)
		}
		return p, nil
	}
	if err = a.e.fault(ctx, err); err != nil {
		return p, err
	}
	return p, a.keys(ctx, "*", func(keys []string) (bool, error) {
		for _, k := range keys {
			if tag, _ := a.split(k); !strings.HasPrefix(tag, probeTag) {
				return true, fmt.Errorf("redis: %w: there are keys that begin with %s", bridge.ErrNotEmpty, a.e.opts.Prefix)
			}
		}
		return false, nil
	})
}

// mark says that an import has come so far.
func (a *Archive) mark(p bridge.Progress) (step, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return step{}, fmt.Errorf("write how far the import has come: %w", err)
	}
	return plain(a.e.client.B().Set().Key(a.e.importKey()).Value(rueidis.BinaryString(b)).Build(), a.e.importKey()), nil
}

// Finish implements bridge.Archive.
func (a *Archive) Finish(ctx context.Context, epoch string) error {
	e := a.e
	_, _, key := e.machineKeys()
	err := a.write(ctx, []step{plain(e.client.B().Set().Key(key).Value(epoch).Build(), key),
		plain(e.client.B().Del().Key(e.importKey()).Build(), e.importKey())})
	if err == nil {
		a.epoch, a.marked = epoch, false
	}
	return err
}

// Clear implements bridge.Archive. The mark goes last, so that what is left where
// it breaks off is still known for half an import.
func (a *Archive) Clear(ctx context.Context) error {
	p, err := a.Progress(ctx)
	if err != nil || p == (bridge.Progress{}) {
		return err
	}
	e := a.e
	err = a.keys(ctx, "*", func(keys []string) (bool, error) {
		var steps []step
		for _, k := range keys {
			if k != e.importKey() && k != e.formatKey() {
				steps = append(steps, plain(e.client.B().Unlink().Key(k).Build(), k))
			}
		}
		return false, a.write(ctx, steps)
	})
	if err != nil {
		return err
	}
	a.epoch, a.marked, a.numbers = "", false, nil
	return a.write(ctx, []step{plain(e.client.B().Unlink().Key(e.importKey()).Build(), e.importKey())})
}
