package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/move"
	"hookbridge/app/server"
)

// ExportCmd writes a whole store to a file.
type ExportCmd struct {
	To string `placeholder:"FILE" help:"Where to; an export that broke off goes on there. Default: standard output."`

	server.Store
}

// Help is shown under export --help.
func (*ExportCmd) Help() string {
	return `Writes all that a store keeps (messages, ids, acks, groups, revocations, receipts) to one file, from which import makes the same store in the other engine: sessions resume there with the cursors that they have. The bridge must be stopped, and stay so until the import is done. The file holds payloads: it is readable by its owner alone, and is to be removed afterwards.

From bridge.db to Redis:

    hookbridge export --to store.jsonl --data-dir data
    hookbridge import store.jsonl --redis-url redis://127.0.0.1:6379

And back, into a folder that is new:

    hookbridge export --to store.jsonl --redis-url redis://127.0.0.1:6379
    hookbridge import store.jsonl --data-dir data2

Without a file between, which begins anew where it breaks off:

    hookbridge export --data-dir data | hookbridge import --redis-url redis://127.0.0.1:6379

The same command again goes on where it was stopped.`
}

// Run exports.
func (c *ExportCmd) Run(ctx context.Context, streams Streams) (err error) {
	a, err := openArchive(ctx, &c.Store, streams)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	total, err := a.Count(ctx)
	if err != nil {
		return err
	}
	toFile := c.To != "" && c.To != "-"
	m := newMeter(streams.Err, "exported", total, false, time.Now)
	if toFile && isTerminal(streams.Err) { // at a pipe's other end import draws its own
		m.drawn()
	}
	o := move.Options{Moved: m.moved, Say: m.say}
	var moved move.Moved
	if toFile {
		moved, err = move.Export(ctx, a, c.To, o)
	} else {
		moved, err = move.Stream(ctx, a, streams.Out, o)
	}
	if moved.Bytes > 0 {
		m.sum(moved)
	}
	return c.explain(ctx, err)
}

// explain says what to do about an export that failed.
func (c *ExportCmd) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, move.ErrFinished):
		return fmt.Errorf("--to %s: %w; name a new file, or remove that one", c.To, err)
	case errors.Is(err, move.ErrForeign), errors.Is(err, move.ErrOther):
		return fmt.Errorf("--to %s: %w; it is left as it is: name a new file", c.To, err)
	case errors.Is(err, move.ErrNothing):
		return fmt.Errorf("%w: is %s right?", err, c.Place())
	case errors.Is(err, bridge.ErrUnfinished):
		return fmt.Errorf("%w: finish it first, with hookbridge import and the same export", err)
	case c.To == "" || c.To == "-":
		return fmt.Errorf("%w; an export to standard output begins anew, and with --to FILE it goes on", orStopped(ctx, err))
	}
	return fmt.Errorf("%w; what is in %s stays: the same command again goes on from there", orStopped(ctx, err), c.To)
}

// orStopped is err, or that the operator wanted it so.
func orStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errStopped
	}
	return err
}

var errStopped = errors.New("stopped")

// openArchive opens the store as an archive.
func openArchive(ctx context.Context, s *server.Store, streams Streams) (bridge.Archive, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(orDiscard(streams.Err), &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := s.OpenArchive(ctx, log)
	if err != nil && ctx.Err() != nil {
		return nil, errStopped
	}
	return a, err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
