package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/move"
	"hookbridge/app/server"
)

// ImportCmd makes a store of an export.
type ImportCmd struct {
	File string `arg:"" optional:"" placeholder:"FILE" help:"What export has written. Default: standard input."`

	server.StoreSettings
}

// Help is shown under import --help.
func (*ImportCmd) Help() string {
	return `Loads what export has written into a store that is new, and makes it one that a bridge runs on: with the same messages, ids and cursors. No bridge starts on the store before the import is done. See export --help for the whole way.

` + moveExamples + `
An import that breaks off leaves a store that no bridge starts on: run it again, which takes out what is there and starts over.`
}

// Run imports.
func (c *ImportCmd) Run(ctx context.Context, streams Streams) (err error) {
	in := streams.In
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	} else if isTerminal(in) {
		return errors.New("say what to import: hookbridge import FILE, or hookbridge export | hookbridge import")
	}
	a, err := openArchive(ctx, &c.StoreSettings, streams)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	p := newProgress(streams.Err, isTerminal(streams.Err), "imported", sizeOf(in), true, time.Now)
	moved, err := move.Import(ctx, a, in, p.moved)
	if moved.Bytes > 0 {
		p.sum(moved)
	}
	return c.explain(ctx, err)
}

// explain says what to do about an import that failed.
func (c *ImportCmd) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bridge.ErrNotEmpty):
		return fmt.Errorf("%s: %w", c.Place(), err)
	case errors.Is(err, move.ErrForeign):
		return fmt.Errorf("%w; an import wants what hookbridge export has written", err)
	case ctx.Err() == nil && (errors.Is(err, move.ErrDamaged) || errors.Is(err, move.ErrIncomplete)):
		return fmt.Errorf("%w; copy it again from where it was made, or export again, and run import again: it starts over", err)
	}
	return fmt.Errorf("%w; run import again: it starts over", orStopped(ctx, err))
}

// sizeOf is a file's size; 0 of a pipe.
func sizeOf(in io.Reader) int64 {
	f, ok := in.(*os.File)
	if !ok {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}
