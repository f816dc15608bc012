package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hookbridge/app/bridge"
)

// Import loads an export into a store and makes it one that a bridge runs on. Only
// whole sections are loaded, and progress is called after each. What an import that
// broke off has left is taken out first, once the new export's first section has come
// whole. Errors: ErrForeign, ErrDamaged, ErrIncomplete, bridge.ErrNotEmpty, those of
// in and of the store. It ends with ctx, also while in has nothing to give.
func Import(ctx context.Context, a bridge.Archive, in io.Reader, progress func(Moved)) (Moved, error) {
	var m Moved
	in, stop := interruptible(ctx, in)
	defer stop()
	r, err := newReader(in)
	if err != nil {
		return m, err
	}
	for begun := false; !r.ended; begun = true {
		entries, err := r.next()
		if err != nil {
			return m, err
		}
		if !begun {
			if err := a.Begin(ctx); err != nil {
				return m, explain(a, r.header, err)
			}
		}
		if len(entries) > 0 {
			if err := a.Load(ctx, entries); err != nil {
				return m, err
			}
		}
		m = Moved{Entries: r.entries, Bytes: r.offset}
		progress(m)
	}
	return m, a.Finish(ctx, r.header.Epoch)
}

// explain says what is in the way of an import.
func explain(a bridge.Archive, h header, err error) error {
	if !errors.Is(err, bridge.ErrNotEmpty) {
		return err
	}
	if epoch, _ := a.Epoch(); epoch == h.Epoch {
		return fmt.Errorf("%w: it is the one that this export came from, or this export has been imported already; if so, nothing is left to do: start the bridge", err)
	}
	return fmt.Errorf("%w: it has a life of its own, which an import would mix with another; import into a folder or under a prefix that is new", err)
}

// interruptible is in until ctx ends, or stop is called.
func interruptible(ctx context.Context, in io.Reader) (out io.Reader, stop func()) {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err) // nil is the end
	}()
	cancel := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	return r, func() {
		cancel()
		r.Close()
	}
}
