package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hookbridge/app/bridge"
)

// Import loads an export into a store and makes that one a bridge runs on. An
// import that broke off goes on when it is given the same export again, be it
// longer by now. Only whole sections are loaded, so that the progress in the
// store is always at a checkpoint: an export that goes on never changes what is
// before one.
func Import(ctx context.Context, a bridge.Archive, in io.Reader, o Options) (Moved, error) {
	o = o.withDefaults()
	var m Moved
	r, err := newReader(&interruptible{ctx, in})
	if err != nil {
		return m, err
	}
	had, err := a.Progress(ctx)
	if errors.Is(err, bridge.ErrNotEmpty) {
		return m, notEmpty(a, r.header, err)
	}
	if err != nil {
		return m, err
	}
	for end := false; !end; {
		s, err := r.next()
		if err == nil && s.end {
			err = r.atEnd()
		}
		if errors.Is(err, ErrIncomplete) {
			n := m.Entries
			if had.Export == r.header.Export {
				n = max(n, had.Loaded)
			}
			return m, fmt.Errorf("%w: %d entries of it are in the store; finish the export and run import again, and it goes on", err, n)
		}
		if err != nil {
			return m, err
		}
		if had, err = begin(ctx, a, r.header, had, o); err != nil {
			return m, err
		}
		switch {
		case r.entries <= had.Loaded:
			m.Before = r.entries
		case len(s.entries) > 0:
			if err := a.Load(ctx, s.entries, bridge.Progress{Export: r.header.Export, Loaded: r.entries}); err != nil {
				return m, err
			}
		}
		m.Entries, m.Bytes, end = r.entries, r.offset, s.end
		o.Moved(m)
	}
	if had.Loaded > m.Entries {
		return m, fmt.Errorf("%w: %d entries of it are in the store already, and it has %d", ErrDamaged, had.Loaded, m.Entries)
	}
	if err := a.Finish(ctx, r.header.Epoch); err != nil {
		return m, err
	}
	return m, nil
}

// begin makes room for an export where half of another one is in the store. It
// is called when a section has come whole, so that a file which is no good takes
// nothing out.
func begin(ctx context.Context, a bridge.Archive, h header, had bridge.Progress, o Options) (bridge.Progress, error) {
	switch had.Export {
	case "":
		had.Export = h.Export
	case h.Export:
	default:
		o.Say(fmt.Sprintf("the store holds %d entries of another export, which was never finished: they are taken out, and this one begins anew", had.Loaded))
		if err := a.Clear(ctx); err != nil {
			return had, err
		}
		had = bridge.Progress{Export: h.Export}
	}
	return had, nil
}

// notEmpty says what is in the way.
func notEmpty(a bridge.Archive, h header, err error) error {
	if a.Epoch() == h.Epoch {
		return fmt.Errorf("%w: it is the one that this export came from, or this export has been imported already; if so, nothing is left to do: start the bridge", err)
	}
	return fmt.Errorf("%w: it has a life of its own, which an import would mix with another; import into a folder or under a prefix that is new", err)
}
