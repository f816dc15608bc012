package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/move"
	"hookbridge/app/server"
)

// ExportCmd writes a whole store to a file.
type ExportCmd struct {
	To string `placeholder:"FILE" help:"Where to: a file that is not there yet. Default: standard output."`

	server.StoreSettings
}

// Help is shown under export --help.
func (*ExportCmd) Help() string {
	return `Writes all that a store keeps (messages, ids, acks, groups, revocations, receipts, and the callbacks that wait) to one file, from which import makes the same store of either kind: sessions resume there with the cursors that they have. The bridge must be stopped, and stay so until the import is done. The file holds payloads: it is readable by its owner alone, and is to be removed afterwards.

` + moveExamples + `
Without a file between:

    hookbridge export --data-dir data | hookbridge import --redis-url redis://127.0.0.1:6379

An export that breaks off leaves no file, and changes nothing in the store: run it again.`
}

// moveExamples are for the help of export and of import.
const moveExamples = `From bridge.db to Redis:

    hookbridge export --to store.jsonl --data-dir data
    hookbridge import store.jsonl --redis-url redis://127.0.0.1:6379

And back, into a folder that is new:

    hookbridge export --to store.jsonl --redis-url redis://127.0.0.1:6379
    hookbridge import store.jsonl --data-dir data2
`

// Run exports.
func (c *ExportCmd) Run(ctx context.Context, streams Streams) (err error) {
	a, err := openArchive(ctx, &c.StoreSettings, streams)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	total, err := a.Count(ctx)
	if err != nil {
		return err
	}
	export := func(out io.Writer, terminal bool) error {
		p := newProgress(streams.Err, terminal, "exported", total, false, time.Now)
		moved, err := move.Export(ctx, a, out, p.moved)
		if moved.Bytes > 0 {
			p.sum(moved)
		}
		return err
	}
	if c.To == "" || c.To == "-" {
		return c.explain(ctx, export(streams.Out, false)) // import at the pipe's other end has the terminal
	}
	return c.explain(ctx, writeNew(c.To, func(f *os.File) error { return export(f, isTerminal(streams.Err)) }))
}

// writeNew has write fill a new file that its owner alone can read. Where that fails, no
// file is left. os.ErrExist where there is one.
func writeNew(path string, write func(f *os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// explain says what to do about an export that failed.
func (c *ExportCmd) explain(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, bridge.ErrUnfinished):
		return err
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("--to %s: the file is there already; it is left as it is: name a new one, or remove it", c.To)
	case errors.Is(err, move.ErrNothing):
		return fmt.Errorf("%w: is %s right?", err, c.Place())
	}
	return fmt.Errorf("%w; run export again: it starts over", orStopped(ctx, err))
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
func openArchive(ctx context.Context, s *server.StoreSettings, streams Streams) (bridge.Archive, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(streams.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := s.OpenArchive(ctx, log)
	if err != nil && ctx.Err() != nil {
		return nil, errStopped
	}
	return a, err
}
